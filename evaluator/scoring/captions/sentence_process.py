"""The process that runs FENSE's models; captions/sentence_models.py starts it, nobody else should.

One JSON object comes in on standard input, one goes out on standard output; what cannot be done ends it with a
traceback.
"""

import json
import os
import sys
from typing import Any

from evaluator.scoring.captions.sentence_models import DETECTOR, SBERT


def main() -> None:
    """Answer the request."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries' own words are no answer
    request = json.load(sys.stdin)
    found: dict[str, list[float]] = {"similarity": [], "errors": []}
    if request["encoder"]:
        from aac_metrics.functional.sbert_sim import sbert_sim

        found["similarity"] = _rows(
            sbert_sim(request["candidates"], request["references"], sbert_model=SBERT), "sbert_sim"
        )
    if request["detector"]:
        from aac_metrics.functional.fer import fer

        found["errors"] = _rows(fer(request["candidates"], echecker=DETECTOR), "fer")
    json.dump(found, answers)
    answers.close()


def _rows(scores: Any, name: str) -> list[float]:
    _, rows = scores
    return [float(value) for value in rows[name]]


if __name__ == "__main__":
    main()
