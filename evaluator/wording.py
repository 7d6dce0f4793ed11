"""Words that many messages share: a value, a list of names, a number of problems, the name that was meant."""

import difflib
from collections.abc import Iterable, Sequence


def shown(value: object, limit: int = 60) -> str:
    """A value for a message: on one line, short, and with nothing in it that a terminal would obey."""
    text = repr(value[:limit] + "..." if isinstance(value, str) and len(value) > limit else value)
    return text if len(text) <= 4 * limit else text[: 4 * limit] + "..."


def printable(text: str) -> str:
    """Text that a terminal obeys nothing of: "a\\x1b[2Jb" -> "a\\\\x1b[2Jb"; letters of all scripts stay."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def named(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list: (["test0001", "test0004", "test0007"], 2) -> "test0001, test0004, ..."."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def counted(problems: Sequence[object]) -> str:
    """How many problems there are: "1 problem", "2 problems"."""
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def duration(seconds: float) -> str:
    """3725 -> "1 h 2 min", 64 -> "1 min 4 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a wrong name: 'did you mean "device"?', or the list of names where none is near."""
    names = sorted(known)
    meant = nearest(name, names)
    return f'did you mean "{meant}"?' if meant is not None else "known: " + ", ".join(names)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The name that a wrong one may stand for; None where none is near."""
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)), None)
