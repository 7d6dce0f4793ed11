"""Clips inside a page: the worst ones as Opus, up to so many seconds; the others are linked where they lie.

A clip is embedded as the model hears it: its first channel, 16 kHz, at most 30 s. A second is about 5 kB in the page.
"""

import base64
import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evaluator.audio.reading import MAX_SECONDS, UnusableAudioError, read_beginning, waveform
from evaluator.audio.source import opened, source_of, with_span

RUN_SECONDS = 60.0
"""Seconds of audio in the report that a run writes: encoding them takes 1.5 s of one core, and 0.3 MB."""
COMMAND_SECONDS = 900.0
"""Seconds of audio in a report that is asked for: about 4.5 MB."""
RATE = 16_000
_THREADS = 2


def can_embed() -> bool:
    """Whether what decodes and encodes audio is installed (the extra "audio")."""
    return all(importlib.util.find_spec(name) is not None for name in ("numpy", "soundfile", "soxr"))


def choose(worst_first: Sequence[int], seconds: Sequence[float | None], most: float) -> list[int]:
    """The rows whose clips are embedded.

    Args:
        worst_first: rows, in the order in which they are wanted.
        seconds: of each row; None where nothing was heard.
        most: seconds in all.

    Returns:
        list[int]: rows; one that no longer fits is left out, and shorter ones behind it are taken.
    """
    chosen: list[int] = []
    left = most
    for row in worst_first:
        length = min(seconds[row] or 0.0, float(MAX_SECONDS))
        if 0 < length <= left:
            chosen.append(row)
            left -= length
    return chosen


def embedded(rows: Sequence[int], paths: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Encode clips, a few at a time.

    Args:
        rows: those to be encoded.
        paths: of all rows.

    Yields:
        The row and its clip as base64 of Ogg Opus; a clip that cannot be read any more is left out.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(rows), 4 * _THREADS):
            part = rows[start : start + 4 * _THREADS]
            for row, opus in zip(part, pool.map(_encoded, [paths[row] for row in part]), strict=True):
                if opus is not None:
                    yield row, opus


def _encoded(path: str) -> str | None:
    import soundfile

    file = io.BytesIO()
    with contextlib.suppress(OSError, UnusableAudioError, soundfile.LibsndfileError):
        with opened(Path(path)) as clip:
            samples = waveform([read_beginning(clip.file, clip.suffix, clip.span)], RATE)
        soundfile.write(file, samples, RATE, format="OGG", subtype="OPUS")
        return base64.b64encode(file.getvalue()).decode("ascii")
    return None


def link(path: str) -> str:
    """The file as an address that a page from disk can play; "" where the row names none, or an archive's member."""
    with contextlib.suppress(ValueError, OSError):
        source = source_of(Path(path))
        return "" if not path or source.member else with_span(source.file.absolute().as_uri(), source.span)
    return ""
