"""The clips that efficiency is measured on: rows of an annotation, or made-up noise of stated lengths.

In: the config and what was asked for. Out: a ClipChoice, checked before the model is loaded, and its requests at the
model's sampling rate, in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.annotation.annotation import Sample, read_annotation
from evaluator.audio.loading import check_audio, load_audio
from evaluator.audio.reading import MAX_SECONDS, MIN_SECONDS
from evaluator.config.config import Config
from evaluator.errors import ConfigError
from evaluator.files import sha256
from evaluator.model import Request
from evaluator.tasks import QUESTION, Mode, task_of

NOISE_SEED = 0
NOISE_LEVEL = 0.1


@dataclass(frozen=True, slots=True)
class ClipChoice:
    """Which clips: either samples of an annotation, or lengths of noise in seconds.

    Attributes:
        samples: rows, with noise none.
        noise: seconds of each clip, with samples none.
        task: the label and question that noise is asked with.
        source: where the clips come from, for the record.
    """

    samples: tuple[Sample, ...]
    noise: tuple[float, ...]
    task: tuple[str, str]
    source: dict[str, Any]

    def requests(self, sampling_rate: int, heard: float | None = None) -> list[Request]:
        """Read or make the clips.

        Args:
            sampling_rate: in Hz.
            heard: seconds of a clip that the model hears; None: all of it.

        Raises:
            AudioError: a file cannot be read; it is named.
        """
        most = None if heard is None else int(heard * sampling_rate)
        if self.samples:
            return [
                Request(sample.index, load_audio(sample.clip, sampling_rate)[:most], sample.task, sample.question)
                for sample in self.samples
            ]
        random = np.random.default_rng(NOISE_SEED)
        requests = []
        for index, seconds in enumerate(self.noise):
            noise = NOISE_LEVEL * random.standard_normal(round(seconds * sampling_rate))
            requests.append(Request(index, noise.astype(np.float32)[:most], *self.task))
        return requests


def from_annotation(config: Config, mode: Mode, known_tasks: Mapping[str, bool], *, most: int) -> ClipChoice:
    """Choose clips of a mode's annotation, evenly spread over its rows.

    Args:
        config: names the annotation and the folder of the audio.
        mode: whose annotation, read under the mode's rules.
        known_tasks: task label -> whether it needs a question.
        most: how many at most.

    Raises:
        AnnotationError: with every problem of the file.
        AudioError: the header of a chosen clip cannot be read.
        ConfigError: there is no annotation.
    """
    path = config.annotation_path(task_of(mode))
    annotation = read_annotation(path, prefix=config.datasets.prefix, mode=mode, known_tasks=known_tasks)
    samples = annotation.without_problems()
    chosen = tuple(samples[place] for place in spread_places(len(samples), most))
    for sample in chosen:
        check_audio(sample.path)
    source = {
        "source": "annotation",
        "annotation": {"path": str(path), "sha256": sha256(Path(path))},
        "mode": mode,
        "rows": len(samples),
        "ids": [sample.id for sample in chosen],
    }
    return ClipChoice(chosen, (), ("", ""), source)


def from_noise(seconds: Sequence[float], known_tasks: Mapping[str, bool], *, mode: Mode | None) -> ClipChoice:
    """Make up clips of white noise, always the same for the same lengths.

    Args:
        seconds: of each clip, from 1 (shorter files are filled up to that as well) to 30.
        known_tasks: task label -> whether it needs a question.
        mode: whose task is asked for; None: the first that the model knows.

    Raises:
        ConfigError: a length is out of bounds, or the model knows no task.
    """
    wrong = [value for value in seconds if not MIN_SECONDS <= value <= MAX_SECONDS]
    if wrong or not seconds:
        raise ConfigError(f"--noise takes lengths from {MIN_SECONDS} to {MAX_SECONDS} s, and it is {list(seconds)}.")
    wanted = task_of(mode).labels if mode is not None else tuple(known_tasks)
    label = next((name for name in wanted if name in known_tasks), None)
    if label is None:
        raise ConfigError(f"The model knows none of the tasks {', '.join(wanted) or '(it knows no task)'}.")
    source = {"source": "noise", "seed": NOISE_SEED, "level": NOISE_LEVEL, "task": label}
    return ClipChoice((), tuple(seconds), (label, QUESTION if known_tasks[label] else ""), source)


def spread_places(total: int, most: int) -> list[int]:
    """Places evenly spread over a list: (10, 4) -> [0, 2, 5, 7]; all of them where there are no more."""
    number = min(total, most)
    return [place * total // number for place in range(number)]
