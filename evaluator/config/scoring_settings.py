"""The settings of scoring alone, for commands that run no model: a run's YAML file, --options, or both."""

from collections.abc import Sequence
from pathlib import Path

from evaluator.config.config import load_config
from evaluator.config.sections import ScoringConfig, check_section
from evaluator.config.yaml import Document
from evaluator.errors import ConfigError, Problem
from evaluator.wording import counted

_SHUFFLE = "datasets.shuffle_choices"


def scoring_settings(path: Path | None, options: Sequence[str]) -> tuple[ScoringConfig, int | None]:
    """Read how to score.

    Args:
        path: the configuration of a run; None without one.
        options: "scoring.unit=speaker" items, or pairs.

    Returns:
        tuple[ScoringConfig, int | None]: the section scoring, and `datasets.shuffle_choices`.

    Raises:
        ConfigError: with every problem; without a file also for options that are not about scoring.
    """
    if path is not None:
        config = load_config(path, options)
        return config.scoring, config.datasets.shuffle_choices
    document = Document(path=None, tree={})
    document.override(options)
    problems = [Problem(*problem) for problem in document.problems]
    tree = document.tree
    datasets = tree.pop("datasets", {})
    shuffle = datasets.pop("shuffle_choices", None)
    if shuffle is not None and type(shuffle) is not int:
        problems.append(Problem(document.label(_SHUFFLE), f"expected a whole number, found {shuffle!r}"))
    for name, keys in {"datasets": datasets, **{name: tree[name] for name in tree if name != "scoring"}}.items():
        for key in keys:
            told = f"answers that are on disk are scored by the section scoring and {_SHUFFLE} alone"
            problems.append(Problem(document.label(f"{name}.{key}"), told))
    data = {"scoring": tree.get("scoring", {})}
    scoring = check_section(ScoringConfig, "scoring", data, document, problems)
    if problems:
        raise ConfigError(f"The options have {counted(problems)}:", problems)
    return scoring, shuffle
