"""The names of shards: which values mean them and what their braces expand to."""

import subprocess
import sys
from pathlib import Path

import pytest

from salmonn.config.shards import is_shard_pattern, shard_paths
from salmonn.errors import DatasetError


@pytest.mark.parametrize(
    ("value", "shards"),
    [("a-{000..012}.tar", True), ("a.tar", True), ("{a.tar,b.tar}", True), ("a.json", False), ("", False)],
)
def test_what_ends_with_tar_means_shards(value: str, *, shards: bool) -> None:
    assert is_shard_pattern(value) is shards


def test_braces_expand_in_the_order_written() -> None:
    assert shard_paths("x/a-{08..10}.tar") == [Path("x/a-08.tar"), Path("x/a-09.tar"), Path("x/a-10.tar")]
    assert shard_paths("{b,a}-{0..1}.tar") == [Path(name) for name in ("b-0.tar", "b-1.tar", "a-0.tar", "a-1.tar")]
    assert shard_paths("one.tar") == [Path("one.tar")]


def test_unbalanced_braces_are_refused() -> None:
    with pytest.raises(DatasetError, match="braces are not balanced"):
        shard_paths("a-{000..012.tar")


def test_names_are_checked_without_loading_anything_heavy() -> None:
    code = (
        "import sys, salmonn.config.shards; assert not {'torch', 'numpy', 'pyarrow', 'webdataset'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
