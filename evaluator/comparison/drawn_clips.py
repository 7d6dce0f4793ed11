"""Some clips of a finished run, drawn at random: a run folder and a number in, their annotation and their scores out.

What is compared with a further run over these clips is scored as a set of its own: document frequencies of captions,
corpus BLEU and the like belong to a set.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from evaluator.annotation.annotation import read_annotation
from evaluator.answer_files.scored_file import ScoredAnswers, score_answer_file
from evaluator.config.config import Config
from evaluator.files import write_json
from evaluator.run.folder import paths_of
from evaluator.run.journal import Journal, Prediction, read_journal
from evaluator.tasks import TASKS, Mode, task_of


@dataclass(frozen=True, slots=True)
class DrawnClips:
    """Clips that were drawn.

    Attributes:
        annotation: their rows, as the run's annotation has them.
        folder: of their answers, as the folder of a run that is not scored.
        scored: what the answers score.
    """

    annotation: Path
    folder: Path
    scored: ScoredAnswers


def draw_clips(run: Path, config: Config, mode: Mode, number: int, folder: Path) -> DrawnClips:
    """Draw clips of a finished run; the same ones for a seed (`scoring.bootstrap_seed`) and a number.

    Args:
        run: the run's folder.
        config: the run's configuration.
        mode: a valid mode, the run's.
        number: how many; of fewer clips all are taken.
        folder: where to; made here.

    Raises:
        AudioLMError: a file cannot be read or written.
    """
    paths = paths_of(run)
    answers = read_journal(paths.predictions)
    places = sorted(Random(config.scoring.bootstrap_seed).sample(range(len(answers)), min(number, len(answers))))
    drawn = [answers[place] for place in places]
    folder.mkdir(parents=True)
    annotation = folder / "rows.json"
    write_json(annotation, {"annotation": _rows(config, mode, drawn)})
    here = paths_of(folder)
    with Journal(here.predictions) as journal:
        for answer in drawn:
            journal.append(answer)
    shuffle = config.datasets.shuffle_choices
    scored = score_answer_file(annotation, here.predictions, task_of(mode), config.scoring, shuffle=shuffle)
    shutil.copyfile(paths.record, here.record)
    return DrawnClips(annotation, folder, scored)


def _rows(config: Config, mode: Mode, drawn: Sequence[Prediction]) -> list[object]:
    """The annotation's rows of clips, of which a clip may have several."""
    data = config.datasets
    labels = {label: False for task in TASKS for label in task.labels}
    path = config.annotation_path(task_of(mode))
    read = read_annotation(path, prefix=data.prefix, mode=mode, known_tasks=labels, shuffle=data.shuffle_choices)
    clips: dict[tuple[object, ...], list[int]] = {}
    for sample in read.samples:
        clips.setdefault((sample.id, sample.files, sample.task, sample.question), []).append(sample.index)
    wanted = {answer.index for answer in drawn}
    return [read.rows[index].value for clip in clips.values() if wanted & set(clip) for index in clip]
