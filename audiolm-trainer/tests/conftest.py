"""Fixtures of the trainer's tests."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from salmonn.config.config import from_mapping, load_config
from salmonn.config.schema import Config
from salmonn.inference.inference import SalmonnLM, load_language_model
from salmonn.model.salmonn import SALMONN

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., SALMONN]


@pytest.fixture(scope="session")
def reference() -> Path:
    """A complete SALMONN in miniature, and what the original implementation computes with it."""
    return Path(__file__).resolve().parent / "reference" / "salmonn-tiny"


@pytest.fixture(scope="session")
def expected(reference: Path) -> Any:
    """The reference's expected.json."""
    return json.loads((reference / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def arrays(reference: Path) -> Mapping[str, np.ndarray]:
    """The reference's expected.npz."""
    return dict(np.load(reference / "expected.npz"))


@pytest.fixture(scope="session")
def reference_sections(reference: Path) -> dict[str, Any]:
    """The reference's configuration as plain sections, with its own Q-Former sizes."""
    sections = yaml.safe_load((reference / "config.yaml").read_text(encoding="utf-8"))
    sections["model"]["qformer_path"] = "bert-base-uncased"
    return dict(sections)


@pytest.fixture(scope="session")
def build(reference: Path, reference_sections: dict[str, Any]) -> Build:
    """Build the reference model with some keys of `model` changed: build(train=False, ckpt=...)."""

    def builder(*, train: bool = False, **changes: Any) -> SALMONN:
        config = configure(reference_sections, reference, **changes)
        return SALMONN.from_config(config, device=torch.device("cpu"), dtype=torch.float32, train=train)

    return builder


@pytest.fixture(scope="session")
def tiny(build: Build) -> SALMONN:
    """The reference model, frozen; tests must not change it."""
    return build()


@pytest.fixture(scope="session")
def nano() -> SalmonnLM:
    """The shipped nano model, ready to answer; tests must not change it."""
    config = load_config(ROOT / "audiolm-trainer/configs/nano/decode.yaml", purpose="evaluate")
    return load_language_model(config, "cpu")


def configure(sections: dict[str, Any], folder: Path, **changes: Any) -> Config:
    """The sections with keys of `model` replaced."""
    return from_mapping({**sections, "model": {**sections["model"], **changes}}, folder)
