"""report.html: beside a run when it ends, and of any runs on demand."""

import logging
from collections.abc import Sequence
from pathlib import Path

from evaluator.report.contents import gather
from evaluator.report.embedding import COMMAND_SECONDS, RUN_SECONDS
from evaluator.report.page.document import NAME, write_page
from evaluator.report.rows import MOST_ROWS

logger = logging.getLogger(__name__)


def write_beside(folder: Path, rows: int) -> Path | None:
    """Write the report of a run that has just ended, into its folder.

    Whatever goes wrong is a line in the log: the run's results are complete without it.

    Args:
        folder: of a finished run of a valid mode.
        rows: how many it has. A page holds all of them in memory while it is made, which a run of any size may not.

    Returns:
        Path | None: the page; None where there is none.
    """
    path = folder / NAME
    if rows > MOST_ROWS:
        told = "No report is written of more than %d rows by itself. To write one: audiolm-evaluator report %s"
        logger.info(told, MOST_ROWS, folder)
        return None
    try:
        write_page(path, gather([str(folder)]), seconds=RUN_SECONDS)
    except Exception as error:  # noqa: BLE001 - a page is told of results, and may not cost them
        logger.warning(
            "No report was written (%s: %s). The results are complete; to try again: audiolm-evaluator report %s",
            type(error).__name__,
            error,
            folder,
        )
        return None
    return path


def write_report(
    sources: Sequence[str],
    path: Path | None,
    *,
    board: Sequence[str] = (),
    preset: str = "nota-2025",
    seconds: float = COMMAND_SECONDS,
) -> Path:
    """Write the report of runs.

    Args:
        sources: PATH or NAME=PATH; the report is of the first one, compared with the others.
        path: the page; None: in the first run's folder.
        board: sources of a board.
        preset: its rules.
        seconds: of audio in the page.

    Returns:
        Path: the page.

    Raises:
        AudioLMError: a run cannot be read, runs do not compare, or the page cannot be written.
    """
    contents = gather(sources, board=board, preset=preset)
    target = path or contents.run.folder / NAME
    write_page(target, contents, seconds=seconds)
    return target
