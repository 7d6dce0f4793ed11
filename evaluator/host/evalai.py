"""EvalAI's entry: `evaluate(test_annotation_file, user_submission_file, phase_codename, **kwargs)` in main.py."""

from pathlib import Path
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.host.verdict import Reference, judge
from evaluator.tasks import TASKS

TASK_OF_PHASE = {task.name: task for task in TASKS}
"""Phase code names begin with a task's name: "asr", "asr_test", "aac-final"."""


def evaluate(
    test_annotation_file: str, user_submission_file: str, phase_codename: str, **kwargs: Any
) -> dict[str, Any]:
    """Judge a submission.

    Args:
        test_annotation_file: path of the hidden references.
        user_submission_file: path of the CSV.
        phase_codename: begins with the task's name.
        kwargs: EvalAI's submission metadata, which is not needed.

    Returns:
        dict: "result" for the leaderboard, "submission_result" for the participant.

    Raises:
        ValueError: the phase is of no task.
        Exception: with the sentences that EvalAI shows, for a refused file.
    """
    task = next(
        (task for name, task in TASK_OF_PHASE.items() if phase_codename.split("_")[0].split("-")[0] == name), None
    )
    if task is None:
        raise ValueError(f"the phase {phase_codename!r} begins with no task: {', '.join(TASK_OF_PHASE)}")
    verdict = judge(Path(user_submission_file), Reference(Path(test_annotation_file), task), ScoringConfig())
    seen = verdict.for_participants()
    if verdict.status != "scored":
        raise ValueError("\n".join(verdict.problems))
    return {"result": [{phase_codename: seen["scores"]}], "submission_result": seen}
