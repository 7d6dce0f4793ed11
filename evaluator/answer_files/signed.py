"""A signature replayed: answers scored as a line of fields says, and only where the score comes out with that line."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evaluator.answer_files.scored_file import ScoredAnswers, score_answer_file
from evaluator.config.sections import ScoringConfig
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.protocols.explain import differences, settings_of
from evaluator.scoring.protocols.signature import Signature, parse_signature
from evaluator.scoring.result import Scores
from evaluator.tasks import Task


def score_as_signed(
    annotation: Path,
    answers: Path | Mapping[str, str],
    task: Task | None,
    config: ScoringConfig,
    line: str | None,
    *,
    shuffle: int | None = None,
) -> ScoredAnswers:
    """Score answers by a signature, or by the settings alone.

    Args:
        annotation: as `score_answer_file`, and so are answers, task and shuffle.
        answers: what is scored.
        task: what the rows are; None: what their labels say.
        config: decides what the signature does not.
        line: the signature; None: there is none.
        shuffle: `datasets.shuffle_choices`.

    Raises:
        ConfigError: it is no signature, versions differ from those installed here, or no score comes out with it.
        AudioLMError: as `score_answer_file`.
    """
    if line is None:
        return score_answer_file(annotation, answers, task, config, shuffle=shuffle)
    signature = parse_signature(line)
    said, wrong = settings_of(signature), differences(signature)
    if wrong:
        raise ConfigError("The signature cannot be replayed with what is installed here:", wrong)
    config = config.model_copy(update=said.model_dump(exclude_unset=True))
    done = score_answer_file(annotation, answers, task, config, shuffle=shuffle)
    return replace(done, scores=_only_signed(done.scores, signature))


def _only_signed(scores: Scores, signature: Signature) -> Scores:
    """The metrics whose signature has every field of a given one.

    Raises:
        ConfigError: there is none; each metric's fields that differ are named.
    """
    fields = set(signature.fields)
    kept = tuple(metric for metric in scores.metrics if fields <= set(metric.signature.fields))
    if kept:
        return replace(scores, metrics=kept)
    problems: list[Problem] = []
    for metric in scores.metrics:
        here = dict(metric.signature.fields)
        if not here:
            problems.append(Problem(metric.kind.title, f"unavailable: {metric.reason}; {metric.fix}"))
            continue
        wrong = [f"{key} is {here.get(key, 'absent')}, not {value}" for key, value in signature.fields]
        told = [text for text, (key, value) in zip(wrong, signature.fields, strict=True) if here.get(key) != value]
        problems.append(Problem(metric.kind.title, "; ".join(told)))
    raise ConfigError("No score of these answers has the signature:", problems)
