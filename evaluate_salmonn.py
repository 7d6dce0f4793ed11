"""The meeting point: the evaluator and the SALMONN package, and the only file that imports both.

In: a mode and a YAML config. Out: a CSV, its folder and, in valid modes, scores. Another model package with a
`load_model(config, device)` takes part the same way: by a file like this one.
"""

from pathlib import Path

try:
    import salmonn
    from evaluator.cli import build_evaluate_command
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"Error: the Python package {missing.name} is not installed: pip install -r "
        f"{Path(__file__).resolve().parent / 'requirements.txt'}"
    ) from None


def num_gpus() -> int:
    """Count the GPUs that PyTorch sees; launched in several processes, each gets one."""
    import torch

    return torch.cuda.device_count()


main = build_evaluate_command(
    salmonn,
    default_config=Path(__file__).resolve().parent / "configs" / "salmonn_eval_config.yaml",
    num_gpus=num_gpus,
)

if __name__ == "__main__":
    main()
