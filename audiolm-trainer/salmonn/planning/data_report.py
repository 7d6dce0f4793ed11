"""What a data set holds, as far as its annotation and the headers of its clips tell: a few lines to read at a glance.

A `DataReport` tells clips, hours, tasks, lengths of texts, what cannot be read and what will be cut. Of a large set a
seeded sample is looked at, and the lines say so. `measure_reading` times how many clips a second come out of the
reader.
"""

import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from salmonn.audio.loading import (
    MAX_SECONDS,
    MIN_SECONDS,
    READ_SECONDS,
    SAMPLING_RATE,
    SILENCE_SECONDS,
    audio_facts,
    seconds_within,
)
from salmonn.audio.reading import WHOLE
from salmonn.data.dataset import Sample, Samples
from salmonn.errors import AudioError

logger = logging.getLogger(__name__)

MOST_SCANNED = 20_000
MOST_DECODED = 500
"""Clips looked at inside tar shards: there the audio itself is decoded, up to 30 s of each."""
SCAN_THREADS = 8
TEXTS_AT_ONCE = 1000
SHOWN_NAMES = 3
SHOWN_TASKS = 6


class Unreadable(NamedTuple):
    """A clip that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long texts are.

    Attributes:
        unit: what was counted.
        median, p95, longest: lengths that half, 95 % and all of the texts do not exceed.
        over_limit: texts longer than the limit; None where characters were counted and the limit is in tokens.
    """

    unit: Literal["tokens", "characters"]
    median: int
    p95: int
    longest: int
    over_limit: int | None


@dataclass(frozen=True, slots=True)
class DataReport:
    """What one set holds.

    Attributes:
        samples: rows.
        scanned: rows whose clip and text were looked at; fewer than `samples` for a large set.
        seconds: summed audio of the scanned clips that can be read, uncut (in tar shards cut at 30 s).
        longest_seconds: of the scanned clips, cut at 30 s.
        over_30_s: scanned clips that are longer and will be cut (none are known of in tar shards).
        tasks: task -> rows, the most frequent first.
        lengths: of the scanned texts, with their end symbol.
        unreadable: scanned clips without a header that can be read.
    """

    samples: int
    scanned: int
    seconds: float
    longest_seconds: float
    over_30_s: int
    tasks: tuple[tuple[str, int], ...]
    lengths: Lengths
    unreadable: tuple[Unreadable, ...]

    @property
    def hours(self) -> float:
        """Hours of audio, projected from the scanned clips onto all."""
        return self.seconds / 3600 * self.samples / max(self.scanned, 1)

    def lines(self, name: str, *, max_txt_len: int) -> list[str]:
        """Return the report for the screen, three or four lines."""
        whole = self.scanned == self.samples
        where = "" if whole else f"; looked at {self.scanned:,} drawn with the seed, hours projected"
        cut = f", {self.over_30_s:,} over {MAX_SECONDS} s (cut there)" if self.over_30_s else ""
        shown = [f"{task} {count:,}" for task, count in self.tasks[:SHOWN_TASKS]]
        more = len(self.tasks) - SHOWN_TASKS
        lines = [
            f"{name:<12}{self.samples:,} clips, {_hours(self.hours)} of audio{cut}{where}",
            f"{'  tasks':<12}{', '.join(shown)}{f' and {more} more' if more > 0 else ''}",
            f"{'  targets':<12}{_length_line(self.lengths, max_txt_len)}",
        ]
        if self.unreadable:
            names = [f"{clip.name} ({clip.reason})" for clip in self.unreadable[:SHOWN_NAMES]]
            lines.append(f"{'  unreadable':<12} {len(self.unreadable):,}: {'; '.join(names)}")
        return lines


class ReadingRate(NamedTuple):
    """How many clips were read in how many seconds."""

    clips: int
    seconds: float

    @property
    def clips_per_second(self) -> float:
        """The rate; 0 where nothing could be read."""
        return self.clips / self.seconds if self.clips else 0.0


def describe_data(
    samples: Samples, *, tokenizer: PreTrainedTokenizerBase | None, max_txt_len: int, seed: int
) -> DataReport:
    """Look at a set: every row's task, and the header and text of at most MOST_SCANNED clips.

    Args:
        samples: the set.
        tokenizer: counts tokens; None counts characters instead.
        max_txt_len: longest target in tokens, its end symbol included.
        seed: draws the clips that are looked at where there are more than MOST_SCANNED.
    """
    packed = any(os.path.isfile(parent) for parent in samples[0].path.parents)  # noqa: PTH113 - never raises
    chosen = draw(len(samples), MOST_DECODED if packed else MOST_SCANNED, seed)

    def measure(index: int) -> float | Unreadable:
        return _decoded_seconds(samples, index) if packed else _header_seconds(samples[index])

    with ThreadPoolExecutor(SCAN_THREADS, thread_name_prefix="headers") as executor:
        found = list(executor.map(measure, chosen))
    seconds = np.array([value for value in found if not isinstance(value, Unreadable)])
    return DataReport(
        samples=len(samples),
        scanned=len(chosen),
        seconds=float(seconds.sum()),
        longest_seconds=float(min(MAX_SECONDS, seconds.max(initial=MIN_SECONDS))),
        over_30_s=int((seconds > MAX_SECONDS).sum()),
        tasks=_count_tasks(samples),
        lengths=text_lengths([samples[index].text for index in chosen], tokenizer, max_txt_len),
        unreadable=tuple(value for value in found if isinstance(value, Unreadable)),
    )


def draw(count: int, most: int, seed: int) -> list[int]:
    """Give all places of `count`, in order, or `most` of them drawn without repetition."""
    if count <= most:
        return list(range(count))
    return sorted(int(place) for place in np.random.default_rng(seed).choice(count, most, replace=False))


def text_lengths(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None, max_txt_len: int) -> Lengths:
    """Measure texts in tokens, one more for the end symbol, or in characters where there is no tokenizer."""
    if tokenizer is None:
        sizes = np.array([len(text) for text in texts])
    else:
        counts: list[int] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            ids = tokenizer(list(texts[start : start + TEXTS_AT_ONCE]), add_special_tokens=False)["input_ids"]
            counts += [len(row) + 1 for row in ids]
        sizes = np.array(counts)
    median, p95, longest = np.quantile(sizes, [0.5, 0.95, 1.0], method="inverted_cdf")
    return Lengths(
        unit="characters" if tokenizer is None else "tokens",
        median=int(median),
        p95=int(p95),
        longest=int(longest),
        over_limit=None if tokenizer is None else int((sizes > max_txt_len).sum()),
    )


def measure_reading(samples: Samples, *, workers: int, seed: int, most: int = 64) -> ReadingRate:
    """Time how fast clips are read, cut and resampled, `workers` at once (0 and 1 are one after the other).

    Clips that cannot be read are passed over and not counted.
    """
    started = time.perf_counter()
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="audio") as executor:
        read = sum(executor.map(lambda index: _can_be_read(samples, index), draw(len(samples), most, seed)))
    return ReadingRate(clips=read, seconds=time.perf_counter() - started)


def _can_be_read(samples: Samples, index: int) -> bool:
    try:
        samples.load_audio(index, SAMPLING_RATE)
    except AudioError as error:
        logger.warning("%s", error)
        return False
    return True


def _count_tasks(samples: Samples) -> tuple[tuple[str, int], ...]:
    counts = np.bincount(samples.task_ids(), minlength=len(samples.tasks()))
    return tuple(sorted(zip(samples.tasks(), counts.tolist(), strict=True), key=lambda pair: -pair[1]))


def _decoded_seconds(samples: Samples, index: int) -> float | Unreadable:
    """Measure a clip by reading it, as training will: what is cut at 30 s counts as 30 s."""
    try:
        return samples.load_audio(index, SAMPLING_RATE).size / SAMPLING_RATE
    except AudioError as error:
        return Unreadable(Path(samples[index].name).name, str(error))


def _header_seconds(sample: Sample) -> float | Unreadable:
    seconds = SILENCE_SECONDS * len(sample.further)
    for path in (sample.path, *sample.further):
        span = sample.span if path is sample.path else WHOLE
        try:
            facts = audio_facts(path, span)
            known = facts.seconds if math.isfinite(facts.seconds) else span.start + READ_SECONDS
            # A stream that states no length was decoded as far as it is heard.
            seconds += seconds_within(span, known, str(path))
        except AudioError as error:
            name = sample.name if path is sample.path else str(path)
            reason = str(error).removeprefix(f"audio file {str(path)!r} ").removeprefix(f"audio file {name!r} ")
            return Unreadable(Path(name).name, reason)
    return seconds


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{60 * hours:.1f} min" if 60 * hours >= 1 else f"{3600 * hours:.1f} s"


def _length_line(lengths: Lengths, max_txt_len: int) -> str:
    shown = f"{lengths.unit}: p50 {lengths.median}, p95 {lengths.p95}, longest {lengths.longest}"
    if lengths.over_limit is None:
        return f"{shown} (no tokenizer here: model.max_txt_len {max_txt_len} cannot be compared)"
    if lengths.over_limit:
        return f"{shown}; {lengths.over_limit:,} over model.max_txt_len {max_txt_len} (cut there)"
    return f"{shown}; none over model.max_txt_len {max_txt_len}"
