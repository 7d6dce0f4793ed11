"""The meeting point: the evaluator and the SALMONN package, and the only file that imports both.

In: a mode and a YAML config. Out: a CSV, its folder and, in valid modes, scores. Another model package with a
`load_model(config, device)` takes part the same way: by a file like this one. --trainer and --model run a
checkout of the original trainer's layout or any other model instead, for which the SALMONN package need not be there.
"""

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent


def missing_package(missing: ModuleNotFoundError) -> NoReturn:
    """End with the command that installs what is missing."""
    raise SystemExit(
        f"Error: the Python package {missing.name} is not installed: pip install -r {HERE / 'requirements.txt'}"
    ) from None


try:
    from evaluator.cli import build_evaluate_command
    from evaluator.commands.running.script import ScriptCommand
except ModuleNotFoundError as error:
    missing_package(error)


def own_package() -> Any:
    """The SALMONN package."""
    try:
        import salmonn
    except ModuleNotFoundError as error:
        missing_package(error)
    return salmonn


def num_gpus() -> int:
    """Count the GPUs that PyTorch sees; launched in several processes, each gets one."""
    import torch

    return torch.cuda.device_count()


main = ScriptCommand(
    partial(
        build_evaluate_command,
        default_config=HERE / "configs" / "salmonn_eval_config.yaml",
        num_gpus=num_gpus,
    ),
    own_package,
)

if __name__ == "__main__":
    main()
