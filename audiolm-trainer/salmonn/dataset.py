"""Training and validation sets: what is asked of which clip, in which order, and the clips' waveforms.

In goes an annotation file of the original's schema; out come `Sample`s, the seeded order of their batches,
filled prompts with their targets, and waveforms read ahead in threads. A clip that cannot be read stops
everything and is named; no other clip ever takes its place.
"""

import json
import os
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salmonn.audio import load_audio
from salmonn.errors import DatasetError
from salmonn.prompts import PromptBook

DEFAULT_TASK = "asr"
BATCHES_AHEAD = 2
SHOWN_PROBLEMS = 50

Waves = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of an annotation: the clip, what is asked (`task`, `question`) and the answer (`text`)."""

    path: Path
    text: str
    task: str
    question: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What the model is asked and should say, for B samples.

    Attributes:
        indices: B places in the list of samples.
        prompts: B filled prompts, each with the audio slot once.
        targets: B texts.
    """

    indices: tuple[int, ...]
    prompts: tuple[str, ...]
    targets: tuple[str, ...]


def read_annotation(path: Path, *, prefix: str, tasks: Mapping[str, bool]) -> list[Sample]:
    """Read a training annotation: {"annotation": [{"path", "text", "task", "Q"}, ...]} or the bare list.

    A row without task is "asr", one without Q has no question.

    Args:
        path: the JSON file.
        prefix: folder of relative audio paths; an absolute path overrides it.
        tasks: known task -> whether its prompt needs a question.

    Raises:
        DatasetError: the file cannot be read, is empty, or has wrong rows; all of them are listed.
    """
    rows = _read_rows(path)
    problems: list[str] = []
    samples = []
    for number, row in enumerate(rows):
        found = _row_problems(row, tasks)
        if not found:
            sample = _to_sample(row, prefix)
            samples.append(sample)
            found = _audio_problems(sample.path)
        problems += [f"row {number}: {problem}" for problem in found]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        more = len(problems) - SHOWN_PROBLEMS
        shown = problems[:SHOWN_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
        raise DatasetError("\n  ".join([f"{path} has {count}", *shown]))
    return samples


def collate(
    samples: Sequence[Sample],
    indices: Sequence[int],
    book: PromptBook,
    *,
    rng: random.Random | None,
    multi_prompt: bool,
) -> Batch:
    """Put samples together; a pure function of its arguments.

    Args:
        samples: all samples.
        indices: places of this batch's B samples.
        book: wordings of the tasks.
        rng: draws the wordings; None takes each task's first.
        multi_prompt: draw for every sample; False draws once for each task of the batch.

    Example:
        One sample of task "asr" gives
        Batch((7,), ("USER: <Speech><SpeechHere></Speech> Write down ...\\nASSISTANT:",), ("two dogs",)).
    """
    chosen = [samples[index] for index in indices]
    if rng is None:
        prompts = [book.prompt(sample.task, sample.question) for sample in chosen]
    elif multi_prompt:
        prompts = [book.draw(sample.task, rng, sample.question) for sample in chosen]
    else:
        seeds = {task: rng.random() for task in sorted({sample.task for sample in chosen})}
        prompts = [book.draw(s.task, random.Random(seeds[s.task]), s.question) for s in chosen]
    return Batch(tuple(indices), tuple(prompts), tuple(sample.text for sample in chosen))


@dataclass(frozen=True, slots=True)
class ShuffledBatches:
    """The order of training batches: every pass is shuffled anew, its incomplete batch is dropped.

    Stateless: batch number `n` is the same whatever was asked before, so a run can start in the middle.
    """

    num_samples: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batches_per_pass < 1:
            raise DatasetError(
                f"{self.num_samples} training samples do not fill one batch of {self.batch_size}: "
                "lower run.batch_size_train"
            )

    @property
    def batches_per_pass(self) -> int:
        """How many whole batches the set has."""
        return self.num_samples // self.batch_size

    def indices(self, start: int, stop: int) -> Iterator[list[int]]:
        """Yield the samples of batches `start` to `stop` - 1, counted over all passes."""
        order: NDArray[np.int64] | None = None
        for number in range(start, stop):
            cycle, place = divmod(number, self.batches_per_pass)
            if order is None or place == 0:
                order = np.random.default_rng((self.seed, cycle)).permutation(self.num_samples)
            yield [int(i) for i in order[place * self.batch_size : (place + 1) * self.batch_size]]


def in_order(num_samples: int, batch_size: int) -> Iterator[list[int]]:
    """Yield every sample once in batches: 5 samples by 2 -> [0, 1], [2, 3], [4]."""
    for start in range(0, num_samples, batch_size):
        yield list(range(start, min(start + batch_size, num_samples)))


def stream_waves(
    samples: Sequence[Sample], batches: Iterable[Sequence[int]], *, sampling_rate: int, workers: int
) -> Iterator[tuple[list[int], Waves]]:
    """Read the clips of each batch, the next batches ahead in threads.

    Args:
        samples: all samples.
        batches: places of each batch's samples, pulled BATCHES_AHEAD ahead.
        sampling_rate: Hz of the waveforms.
        workers: threads; 0 reads in the caller's thread.

    Yields:
        The indices as given and their waveforms, float32 [N] each, in order.

    Raises:
        AudioError: a clip cannot be read.
    """
    if workers == 0:
        for indices in batches:
            yield list(indices), [load_audio(samples[i].path, sampling_rate) for i in indices]
        return
    waiting: deque[tuple[list[int], list[Future[NDArray[np.float32]]]]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="audio")
    try:
        for indices in batches:
            futures = [executor.submit(load_audio, samples[i].path, sampling_rate) for i in indices]
            waiting.append((list(indices), futures))
            if len(waiting) > BATCHES_AHEAD:
                yield _finished(waiting.popleft())
        while waiting:
            yield _finished(waiting.popleft())
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _finished(entry: tuple[list[int], list[Future[NDArray[np.float32]]]]) -> tuple[list[int], Waves]:
    indices, futures = entry
    return indices, [future.result() for future in futures]


def _read_rows(path: Path) -> list[Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"annotation {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"annotation {path} is not JSON: {error}") from error
    rows = data.get("annotation") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise DatasetError(f'annotation {path} must hold {{"annotation": [...]}} or a list')
    if not rows:
        raise DatasetError(f"annotation {path} has no rows")
    return rows


def _row_problems(row: object, tasks: Mapping[str, bool]) -> list[str]:
    if not isinstance(row, dict):
        return [f"must be an object with path and text (found {row!r})"]
    problems = []
    for field in ("path", "text"):
        value = row.get(field)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{field}: must be a text (found {value!r})")
    task = row.get("task", DEFAULT_TASK)
    question = row.get("Q", "")
    if task not in tasks:
        problems.append(f"task: {task!r} has no training prompt (known: {', '.join(sorted(tasks))})")
    elif not isinstance(question, str):
        problems.append(f"Q: must be a text (found {question!r})")
    elif tasks[task] and not question.strip():
        problems.append(f"Q: task {task!r} needs a question")
    if isinstance(row.get("path"), str) and ".." in Path(row["path"]).parts:
        problems.append(f"path: {row['path']!r} leaves the prefix; write it without ..")
    return problems


def _to_sample(row: Mapping[str, Any], prefix: str) -> Sample:
    return Sample(
        path=Path(os.path.join(prefix, row["path"])),  # noqa: PTH118 - the rule of the evaluator, word for word
        text=row["text"],
        task=row.get("task", DEFAULT_TASK),
        question=row.get("Q", ""),
    )


def _audio_problems(path: Path) -> list[str]:
    if path.is_file():
        return []
    return [f"path: {str(path)!r} {'is not a file' if path.exists() else 'does not exist'}"]
