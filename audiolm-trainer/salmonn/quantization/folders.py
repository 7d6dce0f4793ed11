"""Folders whose weights are quantised already: by which method, and whether its library is here."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "torchao": ("torchao",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "hqq": ("hqq",),
    "compressed-tensors": ("compressed_tensors",),
}
"""Method, as a config.json names it -> the packages that transformers reads it with."""


def folder_method(sizes: PreTrainedConfig) -> str:
    """The method that a folder's weights are quantised with, "" for none."""
    found: Any = getattr(sizes, "quantization_config", None)
    if found is None:
        return ""
    entries = found if isinstance(found, Mapping) else found.to_dict()
    method = entries.get("quant_method")
    if method is None and (entries.get("load_in_8bit") or entries.get("load_in_4bit")):
        return "bitsandbytes"
    return str(getattr(method, "value", method) or "an unnamed method")


def folder_problem(sizes: PreTrainedConfig) -> str:
    """Say what is missing to read a quantised folder, "" for nothing."""
    method = folder_method(sizes)
    missing = [name for name in LIBRARIES.get(method, ()) if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"is quantised by {method}, which needs {' and '.join(missing)}: pip install {' '.join(missing)}"
