"""METEOR 1.5 (Denkowski and Lavie 2014): tokenised captions in, the set's and the rows' scores out.

The jar is asked a line at a time: SCORE ||| references ||| candidate gives a row's statistics, EVAL ||| all of them the
scores. It reads a table for about 30 s first and takes up to 2 GB.
"""

from collections.abc import Sequence

from evaluator.scoring.captions.package_files import pycocoevalcap_file
from evaluator.scoring.java import Java, JavaProcesses

_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_BAR = " ||| "


def meteor_scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], java: Java, processes: JavaProcesses
) -> tuple[float, tuple[float, ...]]:
    """Score a set with `-l en -norm`.

    Args:
        candidates: N captions, words joined by one space.
        references: N lists of them.
        java: runs METEOR.
        processes: starts it.

    Returns:
        tuple[float, tuple[float, ...]]: of the set and of each row, 0 to 1.

    Raises:
        ValueError: it answered with something else than a number, or ended.
        OSError: it ended while it was asked.
    """
    pycocoevalcap_file("meteor/data/paraphrase-en.gz")
    jar = str(pycocoevalcap_file("meteor/meteor-1.5.jar"))
    process = processes.Popen(
        [str(java.executable), "-Xmx2G", "-jar", jar, *_OPTIONS],
        stdin=processes.PIPE,
        stdout=processes.PIPE,
        stderr=processes.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    statistics: list[str] = []
    for candidate, row in zip(candidates, references, strict=True):
        process.stdin.write(f"{_BAR.join(['SCORE', *map(_field, row), _field(candidate)])}\n".encode())
        process.stdin.flush()
        statistics.append(process.stdout.readline().decode().strip())
    process.stdin.write(f"{_BAR.join(['EVAL', *statistics])}\n".encode())
    process.stdin.flush()
    rows = tuple(float(process.stdout.readline()) for _ in statistics)
    return float(process.stdout.readline()), rows


def _field(text: str) -> str:
    """A caption without what divides the fields of the line protocol; PTB tokens never have it."""
    return " ".join(text.replace("|||", " ").split())
