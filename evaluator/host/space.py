"""A Hugging Face Space's handler: `handle(upload, reference, task)` for a gradio File and JSON component."""

from pathlib import Path
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.host.verdict import Reference, judge
from evaluator.tasks import task_named


def handle(upload: str | None, reference: str, task: str = "asr") -> dict[str, Any]:
    """Judge an uploaded CSV; returns what its participant may see.

    Args:
        upload: path of the uploaded file, None before there is one.
        reference: path of the hidden references.
        task: name of what is scored.
    """
    if upload is None:
        return {"status": "refused", "problems": ["Choose a CSV file first."], "scores": {}}
    chosen = task_named(task)
    return judge(Path(upload), Reference(Path(reference), chosen), ScoringConfig()).for_participants()
