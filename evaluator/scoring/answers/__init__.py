"""Tasks whose answers are neither transcripts nor captions: questions, classes, translations."""

from collections.abc import Sequence

from evaluator.config.sections import ScoringConfig
from evaluator.scoring.answers.classes import score_classes
from evaluator.scoring.answers.questions import score_answers
from evaluator.scoring.answers.translations import score_translations
from evaluator.scoring.result import Scores
from evaluator.tasks import CLS, QA, ST, Task

OTHER_TASKS = (QA.name, CLS.name, ST.name)


def score_other(
    task: Task,
    hypotheses: Sequence[str],
    references: Sequence[tuple[str, ...]],
    choices: Sequence[tuple[str, ...]],
    config: ScoringConfig,
) -> Scores:
    """Score a set of one of OTHER_TASKS; arguments as of `scoring.score`."""
    if task.name == QA.name:
        return score_answers(hypotheses, references, choices or [()] * len(hypotheses))
    texts = [row[0] for row in references]
    if task.name == CLS.name:
        return score_classes(hypotheses, texts)
    return score_translations(hypotheses, texts, tokenizer=config.bleu_tokenizer)
