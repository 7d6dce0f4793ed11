"""The keys of a configuration that name files and folders: where they are looked for and what must be there.

Relative paths of a plain tree become absolute ones, and there is a (dotted key, message) for everything that is not
where it should be.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from salmonn.config.shards import is_shard_pattern, shard_paths
from salmonn.errors import DatasetError

Purpose = Literal["evaluate", "train", "dryrun", "answer"]
"""What a configuration is for: the evaluator's run, training, its rehearsal, or single questions. It decides
which keys must be there; in "evaluate" the evaluator checks the sections datasets and run itself."""


class _PathRule(NamedTuple):
    kind: Literal["file", "folder", "either"]
    hub: bool = False
    needed_for: tuple[Purpose, ...] = ()
    empty: str = "is missing"


PATHS: Mapping[str, _PathRule] = {
    "model.llama_path": _PathRule("folder", hub=True, needed_for=("evaluate", "train", "answer")),
    "model.whisper_path": _PathRule("folder", hub=True, needed_for=("evaluate", "train", "answer")),
    "model.beats_path": _PathRule("file"),
    "model.audio_encoder_path": _PathRule("either", hub=True),
    "model.qformer_path": _PathRule("either"),
    "model.ckpt": _PathRule(
        "either",
        needed_for=("evaluate", "answer"),
        empty='is empty, and an untrained model would answer: name the checkpoint, or write "none" to mean that',
    ),
    "model.speech_llama_proj_model": _PathRule("file"),
    "model.prompt_path": _PathRule("file", needed_for=("train", "dryrun")),
    "model.test_prompt_path": _PathRule("file", needed_for=("evaluate",)),
    "datasets.prefix": _PathRule("folder"),
    "datasets.train_ann_path": _PathRule("file", needed_for=("train",)),
    "datasets.valid_ann_path": _PathRule("file"),
    "datasets.test_ann_path": _PathRule("file"),
    "datasets.test_ann_path_asr": _PathRule("file"),
    "datasets.test_ann_path_aac": _PathRule("file"),
    "datasets.test_ann_path_qa": _PathRule("file"),
    "datasets.test_ann_path_cls": _PathRule("file"),
    "datasets.test_ann_path_st": _PathRule("file"),
    "run.distill": _PathRule("file"),
}
"""Every key that names a file or folder. Not datasets.whisper_path: the front end is the model's own."""

UNTRAINED = "none"
"""What `model.ckpt` says where an untrained model is meant."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_USED_DATASETS: Mapping[Purpose, tuple[str, ...]] = {
    "evaluate": (),
    "dryrun": (),
    "train": ("prefix", "train_ann_path", "valid_ann_path"),
    "answer": (),
}


def resolve_path(value: str, folder: Path | None) -> str:
    """Make a path absolute: from the working directory if it is there, else from `folder`, else leave it."""
    if not value:
        return value
    written = Path(value).expanduser()
    for base in (Path.cwd(), folder):
        if base is not None and all(path.exists() for path in _files(str(base / written))):
            return str(Path(os.path.normpath(base / written)))
    return value


def _files(value: str) -> list[Path]:
    """The files that a path means: itself, or the shards of a pattern; itself too where the pattern is wrong."""
    try:
        return shard_paths(value) if is_shard_pattern(value) else [Path(value)]
    except DatasetError:
        return [Path(value)]


def without_folder(value: str, *, hub: bool) -> str:
    """Reduce a path to its last component; with `hub`, "owner/name" that is no folder here stays as it is."""
    if hub and _is_hub_name(value, [Path.cwd()]):
        return value
    return Path(value).name


def path_problems(tree: Mapping[str, Any], folder: Path | None, purpose: Purpose) -> Iterable[tuple[str, str]]:
    """Yield (dotted key, message) for each needed path that is empty and each used path that is not there."""
    for dotted, rule in PATHS.items():
        section, _, name = dotted.partition(".")
        if section == "datasets" and name not in _USED_DATASETS[purpose]:
            continue
        if section == "run" and purpose != "train":
            continue
        if purpose == "dryrun" and purpose not in rule.needed_for:
            continue
        value = get_value(tree, dotted) or ""
        problem = ""
        if isinstance(value, str) and value:
            problem = "" if means_untrained(dotted, value) else _missing(value, rule, folder)
        elif value == "" and purpose in rule.needed_for:
            problem = rule.empty
        if problem:
            yield dotted, problem


def _missing(value: str, rule: _PathRule, folder: Path | None) -> str:
    """Say what is wrong with a path, "" for nothing; of several shards the first that is not there is named."""
    path = next((shard for shard in _files(value) if not shard.exists()), _files(value)[0])
    if path.exists():
        if rule.kind == "folder" and not path.is_dir():
            return f"{value} is a file; a folder is expected"
        if rule.kind == "file" and not path.is_file():
            return f"{value} is a folder; a file is expected"
        return ""
    bases = [Path.cwd()] if folder is None else [Path.cwd(), folder]
    if rule.hub and _is_hub_name(value, bases):
        return ""
    if path.is_absolute():
        return f"{path} does not exist"
    # Of shards the folder that has most of them is meant.
    absent = min(([f for f in _files(str(b / value)) if not f.exists()] for b in bases), key=len)[0]
    name = absent.name if is_shard_pattern(value) else value
    return f"{name} does not exist (looked in {' and in '.join(str(b) for b in dict.fromkeys(bases))})"


def _is_hub_name(value: str, bases: Sequence[Path]) -> bool:
    """Whether a value can only be "owner/name" on the hub: no folder called owner is here."""
    if not HUB_NAME.fullmatch(value):
        return False
    return not any((base / value.partition("/")[0]).is_dir() for base in bases)


def resolve_paths(tree: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Copy a tree of sections with every known path made absolute where it exists."""
    resolved = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for dotted in PATHS:
        section, _, name = dotted.partition(".")
        value = get_value(tree, dotted)
        if isinstance(value, str) and not means_untrained(dotted, value):
            resolved[section][name] = resolve_path(value, folder)
    return resolved


def means_untrained(dotted: str, value: str) -> bool:
    """Whether a key is the checkpoint's, and its value the word for none: "none", "None"."""
    return dotted == "model.ckpt" and value.lower() == UNTRAINED


def get_value(tree: Mapping[str, Any], dotted: str) -> object:
    """Look up "section.name"; None where either is not there."""
    section, _, name = dotted.partition(".")
    values = tree.get(section)
    return values.get(name) if isinstance(values, Mapping) else None
