"""parts/clips.json of an unfinished run: tells its clips from others that may take their names before it goes on.

In: the digests of the rows' clips. Out: a file among the run's parts, and, when the run goes on, an error that names
the clips that were answered and are others now.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path

from evaluator.annotation.annotation import Sample
from evaluator.errors import JournalError
from evaluator.files import replacing
from evaluator.wording import named

NAME = "clips.json"


def write_clips(folder: Path, digests: Sequence[str | None]) -> None:
    """Note the clips of a run, row by row; None for one that cannot be read, unless it could earlier.

    Raises:
        JournalError: the file cannot be written.
    """
    path = folder / NAME
    known = _known(folder) or repeat(None, len(digests))
    try:
        folder.mkdir(exist_ok=True)
        with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            file.write('{"digests": [')
            for number, (digest, before) in enumerate(zip(digests, known, strict=True)):
                file.write(f"{',' if number else ''}\n{json.dumps(digest or before)}")
            file.write("\n]}\n")
    except OSError as error:
        raise JournalError(f"Cannot write {path}: {error.strerror}.") from error


def require_same_clips(
    folder: Path, samples: Sequence[Sample], digests: Sequence[str | None], is_answered: Callable[[int], bool]
) -> None:
    """Refuse to go on where a clip that has its answer is another one now.

    Args:
        folder: of the parts of the run that goes on.
        samples: all rows.
        digests: of the rows' clips as they are now.
        is_answered: whether the row at a place of `samples` has its answer.

    Raises:
        JournalError: clips differ, with the rows' names.
    """
    known = _known(folder)
    if known is None or len(known) != len(samples):
        return  # a run that ended before the file was written
    changed = [
        f"{samples[place].id} ({samples[place].path})"
        for place, (then, now) in enumerate(zip(known, digests, strict=True))
        if None not in (then, now) and then != now and is_answered(place)
    ]
    if changed:
        raise JournalError(
            f"{folder.parent} cannot be resumed: {len(changed)} clip(s) that have their answers were replaced or "
            f"changed since then: {named(changed, 10)}. Put them back, or start anew without --resume."
        )


def drop_clips(folder: Path) -> None:
    """Remove the file of a run that has all its answers, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)
        folder.rmdir()


def _known(folder: Path) -> list[str | None] | None:
    """What the file holds; None where there is none, or none of ours."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))["digests"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, list) else None
