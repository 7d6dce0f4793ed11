"""How tar shards are named: `train-{000..012}.tar` is thirteen files.

Tells from `datasets.train_ann_path` whether shards are meant, and which. Nothing heavy is loaded: a configuration is
checked with it. What is inside the shards is read in `data/shard_index.py`.
"""

from pathlib import Path

from braceexpand import braceexpand

from salmonn.errors import DatasetError

SUFFIX = ".tar"


def is_shard_pattern(value: str) -> bool:
    """Whether a value names tar shards: it ends with .tar, braces or not.

    Example:
        "train-{000..012}.tar", "train.tar" and "{a.tar,b.tar}" do, "train.json" does not.
    """
    return value.lower().endswith((SUFFIX, f"{SUFFIX}}}"))


def shard_paths(value: str) -> list[Path]:
    """Expand the braces of a pattern, in the order written; whether the files exist is not looked at.

    Example:
        "a-{08..10}.tar" -> [Path("a-08.tar"), Path("a-09.tar"), Path("a-10.tar")]

    Raises:
        DatasetError: the braces are not balanced.
    """
    try:
        return [Path(name).expanduser() for name in braceexpand(value, escape=False)]
    except ValueError as error:
        raise DatasetError(f"shards {value}: the braces are not balanced; write name-{{000..012}}.tar") from error
