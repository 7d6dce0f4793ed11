"""The kinds of data sets: what reads and writes each, and how one is known by what it looks like."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.convert.caption_tables import clotho_table, read_audiocaps, read_clotho, read_wavcaps
from evaluator.convert.clip_row import ClipRow, Problems, Reader
from evaluator.convert.fields import AUDIO, first_of
from evaluator.convert.gigaspeech import read_gigaspeech
from evaluator.convert.kaldi import kaldi_files, read_kaldi, unwritable
from evaluator.convert.lhotse import SHAR_CUTS, read_cuts, read_shar
from evaluator.convert.librispeech import ENDING, read_librispeech
from evaluator.convert.lines import numbered_lines
from evaluator.convert.manifest import manifest_lines, read_manifest
from evaluator.convert.own import read_annotation_rows
from evaluator.convert.tables import ENDINGS, read_tables
from evaluator.convert.transcripts import no_line, read_trn, trn_text
from evaluator.convert.webdataset import read_webdataset
from evaluator.errors import ConfigError

_BEGINNING = 1 << 16


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of data set.

    Attributes:
        read: reads its rows.
        captions: whether its texts are captions, of which a clip may have several; transcripts otherwise.
        inside: whether paths are told from the source's folder, not as the source writes them.
        write: makes file name -> text of rows, "" for the target itself; None where it is not written.
        one_text: whether it holds one text a clip.
        refuses: why a row cannot be written.
        keeps_fields: whether further fields are written.
    """

    read: Reader
    captions: bool = False
    inside: bool = False
    write: Callable[[Sequence[ClipRow]], Mapping[str, str]] | None = None
    one_text: bool = True
    refuses: Callable[[ClipRow], str | None] = lambda row: None
    keeps_fields: bool = False


def _manifest(rows: Sequence[ClipRow]) -> Mapping[str, str]:
    return {"": "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in manifest_lines(rows))}


def _no_parts(row: ClipRow) -> str | None:
    return "a part of a file cannot stand there" if row.span != ClipRow("", "", ()).span else None


KINDS: Mapping[str, Kind] = {
    "annotation": Kind(read_annotation_rows),
    "manifest": Kind(read_manifest, write=_manifest, keeps_fields=True),
    "kaldi": Kind(read_kaldi, write=kaldi_files, refuses=unwritable),
    "librispeech": Kind(read_librispeech, inside=True),
    "kspon": Kind(read_trn, write=lambda rows: {"": trn_text(rows)}, refuses=no_line),
    "gigaspeech": Kind(read_gigaspeech),
    "clotho": Kind(
        read_clotho, captions=True, write=lambda rows: {"": clotho_table(rows)}, one_text=False, refuses=_no_parts
    ),
    "audiocaps": Kind(read_audiocaps, captions=True),
    "wavcaps": Kind(read_wavcaps, captions=True),
    "tables": Kind(read_tables),
    "lhotse": Kind(read_cuts),
    "shar": Kind(read_shar, inside=True),
    "webdataset": Kind(read_webdataset, inside=True),
}
WRITTEN = ("annotation", *(name for name, kind in KINDS.items() if kind.write is not None))


def task_of_kind(kind: Kind) -> str:
    """The task label of its clips, with the prompt that the challenge asks it by."""
    return "audiocaption_v2" if kind.captions else "asr"


def kind_of(source: Path) -> str:
    """The kind of a source, by its files, its ending or its first row.

    Raises:
        ConfigError: it is not known, or cannot be read.
    """
    try:
        name = _folder_kind(source) if source.is_dir() else _file_kind(source)
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.filename}: {error.strerror or error}.") from error
    if name is None:
        known = ", ".join(KINDS)
        raise ConfigError(f"{source} looks like no data set that is known; --from says what it is: {known}.")
    return name


def _folder_kind(folder: Path) -> str | None:
    if (folder / "wav.scp").exists():
        return "kaldi"
    if any(folder.glob(SHAR_CUTS)):
        return "shar"
    signs = {"librispeech": f"*{ENDING}", "webdataset": "*.tar"} | {"tables": f"*{ENDINGS[0]}"}
    found = next((name for name, sign in signs.items() if any(folder.rglob(sign))), None)
    return found or ("tables" if any(folder.rglob(f"*{ENDINGS[1]}")) else None)


def _file_kind(file: Path) -> str | None:
    endings = {".trn": "kspon", ".tar": "webdataset", **dict.fromkeys(ENDINGS, "tables")}
    if file.suffix.lower() in endings:
        return endings[file.suffix.lower()]
    first = next(numbered_lines(file, problems := Problems(file)), (0, ""))[1][:_BEGINNING]
    problems.raise_any()
    if file.suffix.lower() == ".csv":
        columns = set(first.replace('"', "").split(","))
        signs = {"clotho": {"file_name", "caption_1"}, "audiocaps": {"youtube_id", "caption"}}
        return next((name for name, sign in signs.items() if sign <= columns), None)
    return _json_kind(file, first)


def _json_kind(file: Path, first: str) -> str | None:
    try:
        row: Any = json.loads(first)
    except ValueError:
        row = None
    if isinstance(row, dict) and not {"annotation", "audios", "data"} & row.keys():
        if "supervisions" in row or "recording" in row:
            return "lhotse"
        return ("annotation" if "path" in row and "task" in row else "manifest") if first_of(AUDIO, row) else None
    with file.open(encoding="utf-8-sig") as text:
        beginning = "".join(text.read(_BEGINNING).split())
    signs = {"annotation": '{"annotation":', "gigaspeech": '"audios":[', "wavcaps": '"data":['}
    found = next((name for name, sign in signs.items() if sign in beginning), None)
    return found or ("annotation" if beginning.startswith("[{") else None)
