"""Kaggle's metric: `score(solution, submission, row_id_column_name)`; paste this file, or import it, in the notebook.

`solution` has the row id, `text` (one reference, or a JSON list of them) and, if it is not speech recognition, `task`.
What a participant sees of a refused file are the sentences of the CSV's rules, as ParticipantVisibleError.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from evaluator.config.sections import ScoringConfig
from evaluator.host.verdict import TOLD, Reference, judge
from evaluator.tasks import ASR, TASKS


class ParticipantVisibleError(Exception):
    """What Kaggle shows to the participant; any other error it hides."""


def score(
    solution: Any, submission: Any, row_id_column_name: str, metric: str = "wer", protocol: str = "challenge"
) -> float:
    """Score a submission.

    Args:
        solution: a pandas DataFrame, without its Usage column, as Kaggle hands it over.
        submission: a pandas DataFrame with the row id and `text`.
        row_id_column_name: the id's column in both.
        metric: which score counts.
        protocol: as `scoring.protocol`.

    Raises:
        ParticipantVisibleError: the submission breaks rules of the CSV.
        ValueError: the solution is wrong; for the organisers.
    """
    rows = [
        {
            "testset_id": str(row[row_id_column_name]),
            "path": f"{number}.wav",
            "task": row.get("task", ASR.labels[0]),
            "text": _texts(row["text"]),
        }
        for number, row in enumerate(solution.to_dict("records"))
    ]
    label = rows[0]["task"] if rows else ASR.labels[0]
    task = next((each for each in TASKS if label in each.labels), None)
    if task is None:
        raise ValueError(f"the solution's task {label!r} is not known")
    with tempfile.TemporaryDirectory(prefix="audiolm-kaggle-") as folder:
        reference, file = Path(folder) / "solution.json", Path(folder) / "submission.csv"
        reference.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        submission.rename(columns={row_id_column_name: "testset_id"}).to_csv(file, index=False)
        verdict = judge(file, Reference(reference, task), ScoringConfig(protocol=protocol))
    if verdict.status == "refused":
        raise ParticipantVisibleError("\n".join(verdict.problems))
    value = next((found.value for found in verdict.private if found.name == metric), None)
    if value is None:
        raise ParticipantVisibleError(TOLD) if verdict.status == "failed" else ValueError(f"there is no {metric}")
    return value


def _texts(text: object) -> object:
    """A reference, or the list that a JSON text of one is."""
    if isinstance(text, str) and text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return text
        return found if isinstance(found, list) else text
    return text
