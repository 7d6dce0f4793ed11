"""The meeting point: the evaluator and the SALMONN package, and the only file that imports both.

In: a mode and a YAML config. Out: a CSV, its folder and, in valid modes, scores. Another model package with a
`load_model(config, device)` takes part the same way: by a file like this one.
"""

from pathlib import Path

import salmonn
from evaluator.cli import build_evaluate_command

main = build_evaluate_command(
    salmonn, default_config=Path(__file__).resolve().parent / "configs" / "salmonn_eval_config.yaml"
)

if __name__ == "__main__":
    main()
