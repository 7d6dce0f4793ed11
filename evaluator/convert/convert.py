"""Converting: a data set of any kind into an annotation, an annotation into what can be written.

In: a source and what it is. Out: files, all or nothing, and what became of the rows. Every problem of the source is
reported at once, and nothing is written then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluator.audio.source import with_span
from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.kinds import KINDS, WRITTEN, kind_of, task_of_kind
from evaluator.convert.own import annotation_text
from evaluator.errors import ConfigError, ResultError
from evaluator.files import replacing
from evaluator.wording import named

ANNOTATION = "annotation"


@dataclass(frozen=True, slots=True)
class Converted:
    """What was converted.

    Attributes:
        kind: of the source.
        rows: that were written.
        prefix: folder that the paths start from; None: they stand as the source wrote them.
        left_out: fields that the target cannot hold.
    """

    kind: str
    rows: int
    prefix: Path | None
    left_out: tuple[str, ...]


def convert(
    source: Path, target: Path, *, kind: str | None, into: str, task: str | None, choices: Choices
) -> Converted:
    """Convert a data set.

    Args:
        source: its file or folder.
        target: the file or folder to write; a folder must not be there.
        kind: what the source is; None: as it looks.
        into: what to write.
        task: the label of rows that have none; None: that of the kind.
        choices: for the reader.

    Raises:
        ConfigError: the kind is not known, or not written.
        AnnotationError: with every problem of the source.
        ResultError: the target cannot be written.
    """
    if not source.exists():
        raise ConfigError(f"{source} does not exist.")
    if into not in WRITTEN:
        raise ConfigError(f"{into} is read and not written; written are {', '.join(WRITTEN)}.")
    name = kind or kind_of(source)
    problems = Problems(source)
    rows = _joined(KINDS[name].read(source, choices, problems), source, problems, captions=KINDS[name].captions)
    if not rows and not problems.found:
        problems.note(source, None, f"has no rows as {name} has them; --from says what it is")
    left_out = _check_target(rows, into, source, problems)
    problems.raise_any()
    write = KINDS[into].write
    _write(target, write(rows) if write else {"": annotation_text(rows, task or task_of_kind(KINDS[name]))})
    inside = source if source.is_dir() else source.parent
    prefix = choices.audio if name == "tables" else inside if KINDS[name].inside else None
    return Converted(name, len(rows), prefix, left_out)


def _joined(found: Iterable[ClipRow], source: Path, problems: Problems, *, captions: bool) -> list[ClipRow]:
    """The rows with ids that are unique: captions of one clip are its texts, other repetitions are problems."""
    rows: dict[str, ClipRow] = {}
    for row in found:
        first = rows.get(row.id)
        if first is None:
            rows[row.id] = row
        elif captions and (first.path, first.span) == (row.path, row.span):
            rows[row.id] = replace(first, texts=first.texts + row.texts)
        elif row.id == row.path:
            # Without an id of its own a row is called by its file, and a file may come twice.
            rows[f"{row.id}#{len(rows)}"] = replace(row, id=f"{row.id}#{len(rows)}")
        else:
            both = f"{with_span(first.path, first.span)} and {with_span(row.path, row.span)}"
            problems.note(source, None, f"the id {row.id} is that of {both}")
    return list(rows.values())


def _check_target(rows: Sequence[ClipRow], into: str, source: Path, problems: Problems) -> tuple[str, ...]:
    """Note what the target cannot hold; gives the fields that it leaves out."""
    if into == ANNOTATION:
        return ()
    kind = KINDS[into]
    for row in rows:
        wrong = kind.refuses(row)
        if wrong is None and kind.one_text and len(row.texts) > 1:
            wrong = f"text: {into} has one text a clip, and there are {len(row.texts)}"
        if wrong is None and any("\n" in each or "\r" in each for each in (row.id, row.path, *row.texts)):
            wrong = f"a line break cannot stand in {into}" if into in ("kaldi", "kspon") else None
        if wrong is not None:
            problems.note(source, None, f"{row.id}: {wrong}")
    kept = {"speaker"} if into == "kaldi" else set()
    return () if kind.keeps_fields else tuple(sorted({name for row in rows for name in row.extra} - kept))


def _write(target: Path, texts: Mapping[str, str]) -> None:
    try:
        if set(texts) == {""}:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                temporary.write_text(texts[""], encoding="utf-8", newline="\n")
            return
        if target.exists():
            raise ResultError(f"{target} is there already: name a folder that is not.")
        target.mkdir(parents=True)
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8", newline="\n")
    except UnicodeEncodeError as error:
        raise ResultError(f"Cannot write {target}: a text holds broken Unicode ({error.reason}).") from error
    except OSError as error:
        raise ResultError(f"Cannot write {target}: {error.strerror or error}.") from error


def summary(done: Converted, source: Path, target: Path) -> list[str]:
    """What became of the rows, in lines."""
    lines = [f"{done.rows} rows of {source} ({done.kind}) -> {target}"]
    if done.prefix is not None:
        lines.append(f"Paths start at datasets.prefix={done.prefix}")
    if done.left_out:
        lines.append(f"Fields that have no place there: {named(done.left_out, 10)}")
    return lines
