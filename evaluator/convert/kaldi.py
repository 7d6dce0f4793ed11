"""Kaldi's data folders: wav.scp, text, segments and utt2spk.

An entry of wav.scp that ends with "|" is a command that Kaldi runs. It is never run here: the entry is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evaluator.audio.reading import WHOLE, Span
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import seconds_of
from evaluator.convert.lines import numbered_lines
from evaluator.wording import shown

_TO_THE_END = -1.0


def read_kaldi(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read a data folder: a row an utterance, in the order of segments, or of wav.scp where there are none."""
    recordings = dict(_recordings(source / "wav.scp", problems))
    texts, speakers = _table(source / "text", problems), _table(source / "utt2spk", problems)
    segments: Iterator[tuple[str, str, Span]]
    if (source / "segments").exists():
        segments = _segments(source / "segments", recordings, problems)
    else:
        segments = ((name, name, WHOLE) for name in recordings)
    seen = set()
    for utterance, recording, span in segments:
        seen.add(utterance)
        speaker = speakers.get(utterance, utterance)
        extra = {"speaker": speaker} if speaker != utterance else {}
        said = (texts[utterance],) if utterance in texts else ()
        yield ClipRow(utterance, recordings[recording], said, span, extra)
    for utterance in texts.keys() - seen if not problems.found else ():
        problems.note(source / "text", None, f"{shown(utterance)} has a text and no audio")


def _recordings(path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    for line, text in numbered_lines(path, problems):
        name, _, entry = text.strip().partition(" ")
        entry = entry.strip()
        if entry.endswith("|"):
            message = (
                f"{shown(name)}: the entry is a command, which is not run: write the audio into files and name these"
            )
            problems.note(path, line, message)
        elif not entry:
            problems.note(path, line, f'expected "recording path", found {shown(text)}')
        elif entry.rpartition(":")[2].isdigit() and ".ark" in entry:
            problems.note(path, line, f"{shown(name)}: {shown(entry)} lies in an archive of Kaldi, which is not read")
        else:
            yield name, entry


def _segments(path: Path, recordings: Mapping[str, str], problems: Problems) -> Iterator[tuple[str, str, Span]]:
    for line, text in numbered_lines(path, problems):
        parts = text.split()
        start = seconds_of(parts[2]) if len(parts) == 4 else None
        end = seconds_of(parts[3]) if len(parts) == 4 else None
        if len(parts) == 4 and parts[3] in ("-1", "-1.0"):
            end = WHOLE.end
        if start is None or end is None or not start < end:
            problems.note(path, line, f'expected "utterance recording start end", found {shown(text)}')
        elif parts[1] not in recordings:
            problems.note(path, line, f"the recording {shown(parts[1])} is not in wav.scp")
        else:
            yield parts[0], parts[1], Span(start, end)


def _table(path: Path, problems: Problems) -> dict[str, str]:
    """What a file says of each utterance; the text keeps all that follows one space or tab."""
    found: dict[str, str] = {}
    for line, text in numbered_lines(path, problems) if path.exists() else ():
        name = text.split(maxsplit=1)[0]
        if name in found:
            problems.note(path, line, f"{shown(name)} is there twice")
        found[name] = text[text.index(name) + len(name) + 1 :]
    return found


def kaldi_files(rows: Sequence[ClipRow]) -> dict[str, str]:
    """The files of a data folder; with parts of files also segments. Ids and paths are as `unwritable` lets them be."""
    cut = any(row.span != WHOLE for row in rows)
    names = {path: f"rec{number:06d}" for number, path in enumerate(dict.fromkeys(row.path for row in rows))}
    if not cut:
        files = {"wav.scp": [f"{row.id} {row.path}" for row in rows]}
    else:
        files = {
            "wav.scp": [f"{name} {path}" for path, name in names.items()],
            "segments": [f"{row.id} {names[row.path]} {row.span.start!r} {_end(row.span)!r}" for row in rows],
        }
    files["text"] = [f"{row.id} {row.texts[0]}" for row in rows if row.texts]
    files["utt2spk"] = [f"{row.id} {row.extra.get('speaker', row.id)}" for row in rows]
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items()}


def unwritable(row: ClipRow) -> str | None:
    """Why a row cannot stand in a data folder."""
    if row.id.split() != [row.id]:
        return f"testset_id: {shown(row.id)} has white space, which ends an id there"
    if row.path.strip() != row.path or row.path.endswith("|"):
        return f"path: {shown(row.path)} would be read as something else there"
    return None


def _end(span: Span) -> float:
    return _TO_THE_END if span.end == WHOLE.end else span.end
