"""Codabench's scoring program: `python -m evaluator.host.codabench INPUT OUTPUT [TASK]`, as metadata.yaml names it.

INPUT holds ref/ with one annotation (JSON) and res/ with one CSV; scores.json goes to OUTPUT, sentences to the log.
"""

import json
import sys
from pathlib import Path

from evaluator.config.sections import ScoringConfig
from evaluator.host.verdict import Reference, judge
from evaluator.tasks import ASR, task_named


def run(source: Path, output: Path, task_name: str = ASR.name) -> int:
    """Judge the one submission; returns the exit code that Codabench reads: 1 for a refused file."""
    task = task_named(task_name)
    [reference], submissions = sorted((source / "ref").glob("*.json")), sorted((source / "res").glob("*.csv"))
    output.mkdir(parents=True, exist_ok=True)
    if len(submissions) != 1:
        sys.stdout.write(f"The archive has {len(submissions)} CSV files; hand in one.\n")
        return 1
    verdict = judge(submissions[0], Reference(reference, task), ScoringConfig())
    (output / "scores.json").write_text(json.dumps(verdict.for_participants()["scores"]), encoding="utf-8")
    sys.stdout.write("".join(f"{problem}\n" for problem in verdict.problems))
    return 0 if verdict.status == "scored" else 1


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4]))
