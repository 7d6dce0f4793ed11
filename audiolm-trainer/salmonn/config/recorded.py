"""What a checkpoint says about its own training, reduced to what may be passed on.

The "config" entry may be ours or the original trainer's, which holds the hub token and the folders of the machine that
it ran on; only its known settings are taken, without token and folders.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from salmonn.config.paths import PATHS
from salmonn.config.schema import DatasetsConfig, GenerateConfig, ModelConfig, OptimConfig, QuantizeConfig, RunConfig

_SECTIONS: Mapping[str, type[BaseModel]] = {
    "model": ModelConfig,
    "generate": GenerateConfig,
    "datasets": DatasetsConfig,
    "run": RunConfig,
}
_NESTED: Mapping[str, type[BaseModel]] = {"run.optims": OptimConfig, "model.quantize": QuantizeConfig}
# Secrets, and what says how a model was loaded and nothing of its weights.
_NEVER = ("model.token", "run.dist_url", "model.merge_lora", "model.bridge_dtype")
_FOLDERS = ("datasets.cache_dir", "run.output_dir")

# What gives other numbers from the same tensors and leaves no trace in their shapes.
_DECIDING = ("lora_alpha", "window_level_Qformer", "second_per_window", "second_stride")


def recorded_config(entry: object) -> dict[str, dict[str, Any]]:
    """Keep the known keys of a "config" entry, without token and folders; {} where it is none.

    Example:
        >>> recorded_config({"model": {"token": "secret", "llama_path": "/home/kim/llama"}, "run": {"seed": 1}})
        {'model': {'llama_path': 'llama'}, 'run': {'seed': 1}}
    """
    if not isinstance(entry, Mapping):
        return {}
    return {
        name: _plain(name, section, entry[name])
        for name, section in _SECTIONS.items()
        if isinstance(entry.get(name), Mapping)
    }


def recorded_tasks(entry: object) -> tuple[str, ...]:
    """Names of the tasks that a checkpoint was trained with, from its "tasks" entry; () where it does not say."""
    if not isinstance(entry, (list, tuple)) or not all(isinstance(task, str) for task in entry):
        return ()
    return tuple(entry)


def disagreements(recorded: Mapping[str, Mapping[str, Any]], configured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the settings of the model that would make the same tensors compute something else, a line each."""
    then, now = recorded.get("model", {}), configured["model"]
    keys = [key for key in _DECIDING if now["lora"] or key != "lora_alpha"]
    return [
        f"  model.{key}: {then[key]!r} in the file, {now[key]!r} in the configuration"
        for key in keys
        if key in then and then[key] != now[key]
    ]


def _plain(section: str, schema: type[BaseModel], values: Mapping[Any, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key in schema.model_fields:
        dotted = f"{section}.{key}"
        if key not in values or dotted in _NEVER:
            continue
        value = values[key]
        if dotted in _NESTED and isinstance(value, Mapping):
            kept[key] = _plain(dotted, _NESTED[dotted], value)
        elif isinstance(value, str):
            kept[key] = _text(dotted, value)
        elif isinstance(value, (bool, int, float)) or _is_flat(value):
            kept[key] = value
    return kept


def _text(dotted: str, value: str) -> str:
    """A text without folders, where it can hold one; a name on the hub stays."""
    if dotted in PATHS and PATHS[dotted].hub and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", value):
        return value
    if dotted in PATHS or dotted in _FOLDERS or re.match(r"[/\\~]|[A-Za-z]:[/\\]", value):
        # The machine it ran on may have had another way of writing paths.
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _is_flat(value: object) -> bool:
    """Whether a value is a list or mapping of words and numbers (task weights, target modules, trackers)."""
    if isinstance(value, Mapping):
        items: Iterable[object] = value.values()
        return all(isinstance(key, str) for key in value) and all(isinstance(item, (int, float)) for item in items)
    return isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value)
