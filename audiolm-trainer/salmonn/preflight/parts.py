"""What can be known to be wrong with a model's files before weights are read: each part, then what belongs together.

Each problem is a (dotted key, sentence). Of weights only names and shapes are looked at: a `.pth` is mapped, not read.
Where parts are wrong the checkpoint is not compared with them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from salmonn.config.schema import Config
from salmonn.errors import CheckpointError
from salmonn.model.audio_encoder import build_audio_encoder
from salmonn.model.beats import BEATs
from salmonn.model.components import load_front_end_extractor, load_tokenizer, qformer_config, read_beats
from salmonn.model.meta import build_meta_model, llm_sizes, whisper_sizes
from salmonn.model.salmonn import SALMONN
from salmonn.quantization.folders import folder_method
from salmonn.quantization.kinds import NO_KIND
from salmonn.weights.checkpoint import (
    beats_state,
    check_fit,
    holds_language_model,
    our_name,
    read_checkpoint,
    read_weights,
    released_name,
)
from salmonn.weights.checkpoint import trained_part as without_ignored
from salmonn.weights.hub import WEIGHTS, hub_problem, is_hub_name
from salmonn.weights.misfit import Shape, causes_of_misfit, whole_beside_quantised

SHOWN_KEYS = 12
PROJECTION = "speech_llama_proj."
TRAINED = ("speech_", "ln_speech.", "ln_audio.")
_WRONG_FILE = "does not fit the configured parts: it holds nothing of a SALMONN's trained part; is this the right file?"


class Problem(NamedTuple):
    """One thing that is wrong: the dotted key to change and a sentence."""

    key: str
    text: str


def part_problems(config: Config, *, offline: bool) -> list[Problem]:
    """List what is wrong with each part by itself.

    Args:
        config: a configuration whose files are there.
        offline: pass over what only the hub could tell.
    """
    found = [] if offline else list(_hub_problems(config))
    return [*found, *_own_problems(config, {problem.key for problem in found}, offline=offline)]


def find_tokenizer(config: Config, *, offline: bool) -> PreTrainedTokenizerBase | None:
    """Load the language model's tokenizer; None where `offline` and it is not on this machine.

    Raises:
        CheckpointError: it is here, or should be on the hub, and cannot be read.
    """
    path = config.model.llama_path
    if not offline or Path(path).is_dir():
        return load_tokenizer(path, config.token)
    try:
        return load_tokenizer(path, None, local_only=True)
    except CheckpointError:
        return None


def sentence(error: Exception) -> str:
    """An error's message in one line: those of libraries come in several."""
    return " ".join(str(error).split())


def _hub_problems(config: Config) -> Iterator[Problem]:
    for key in ("llama_path", "whisper_path"):
        name = getattr(config.model, key)
        if is_hub_name(name) and (text := hub_problem(name, config.token)):
            yield Problem(f"model.{key}", text)


def _own_problems(config: Config, passed: set[str], *, offline: bool) -> Iterator[Problem]:
    """Yield what is wrong with each part by itself; `passed` are keys that have a problem already."""
    parts, token = config.model, config.token
    tries: list[tuple[str, Callable[[], object]]] = [
        ("model.llama_path", lambda: llm_sizes(parts.llama_path, token=token, offline=offline)),
        ("model.whisper_path", lambda: whisper_sizes(parts.whisper_path, token=token, offline=offline)),
        ("model.qformer_path", lambda: qformer_config(parts.qformer_path, encoder_width=1)),
    ]
    if parts.beats_file and not (offline and not Path(parts.beats_file).is_file()):
        tries.append(("model.beats_path", lambda: _check_beats(Path(parts.beats_file))))
    if parts.audio_class:
        own = (parts.audio_class, parts.audio_encoder_path)
        tries.append(("model.audio_encoder", lambda: build_audio_encoder(*own, weights=False)))
    for key in ("llama_path", "whisper_path"):
        path = Path(getattr(parts, key))
        if path.is_dir() and not any(list(path.glob(pattern)) for pattern in WEIGHTS):
            yield Problem(f"model.{key}", f"{path} holds no weights ({' or '.join(WEIGHTS)})")
    if Path(parts.whisper_path).is_dir():
        tries.append(("model.whisper_path", lambda: load_front_end_extractor(parts.whisper_path, None)))
    for key, look in tries:
        if key in passed:
            continue
        try:
            look()
        except CheckpointError as error:
            # What the hub alone could tell is passed over.
            if not (offline and is_hub_name(str(getattr(parts, key.partition(".")[2])))):
                yield _keyed(key, error)


def _check_beats(path: Path) -> None:
    """Compare names and shapes of a BEATs file with its own sizes."""
    sizes, state = read_beats(path)
    with torch.device("meta"):
        beats = BEATs(sizes)
    check_fit(beats_state(state), beats.state_dict(), source=str(path))


def _keyed(key: str, error: Exception) -> Problem:
    """A problem of the key that an error names itself, else of the one that was looked at."""
    named = re.match(r"(model\.\w+):? (.*)", sentence(error))
    return Problem(named[1], named[2]) if named else Problem(key, sentence(error))


def fit_problems(config: Config, *, offline: bool) -> Iterator[Problem]:
    """Hold the checkpoints' shapes against those that the configured parts will have; the parts are in order."""
    parts = config.model
    try:
        model = build_meta_model(config, offline=offline)
    except CheckpointError as error:
        if not offline:
            yield _keyed("model", error)
        return
    if parts.checkpoint_path and not (offline and not Path(parts.checkpoint_path).exists()):
        yield from _checkpoint_problems("model.ckpt", parts.checkpoint_path, model, config, whole=True)
    if parts.speech_llama_proj_model and not (offline and not Path(parts.speech_llama_proj_model).is_file()):
        key = "model.speech_llama_proj_model"
        yield from _checkpoint_problems(key, parts.speech_llama_proj_model, model, config, whole=False)


def file_problems(config: Config) -> Iterator[Problem]:
    """Look at the checkpoint by itself, where the parts that it belongs to are not in order."""
    path = Path(config.model.checkpoint_path)
    if not config.model.checkpoint_path or not path.exists():
        return
    try:
        held = _held_shapes(path, whole=True)
    except CheckpointError as error:
        yield Problem("model.ckpt", sentence(error))
        return
    if not any(name.startswith(TRAINED) for name in held):
        yield Problem("model.ckpt", f"{path} {_WRONG_FILE}")


def _checkpoint_problems(key: str, path: str, model: SALMONN, config: Config, *, whole: bool) -> Iterator[Problem]:
    """Compare one file; `whole` means that it must hold all that a checkpoint of the model does, not its projection."""
    try:
        held = _held_shapes(Path(path), whole=whole)
    except CheckpointError as error:
        yield Problem(key, sentence(error))
        return
    model.llm_in_checkpoint = whole and holds_language_model(held)
    quantised = _quantised_by(model, config) if model.llm_in_checkpoint else NO_KIND
    if quantised != NO_KIND:
        yield Problem(key, f"{path} {whole_beside_quantised(quantised)}")
        return
    needed = {
        name: tuple(tensor.shape)
        for name, tensor in model.trained_state_dict().items()
        if whole or name.startswith(PROJECTION)
    }
    found = {
        "missing": [name for name in needed if name not in held],
        "unexpected": [name for name in held if name not in needed] if whole else [],
        "of another shape": [name for name in needed if name in held and held[name] != needed[name]],
    }
    if not any(found.values()):
        return
    causes = causes_of_misfit(held, needed, config.model) if whole else []
    if causes:
        listed = "; ".join(f"{setting} {text}" for setting, text in causes)
        yield Problem(key, f"{path} does not fit the configured parts: {listed}")
    elif len(found["missing"]) == len(needed):
        yield Problem(key, f"{path} {_WRONG_FILE}")
    else:
        yield Problem(key, f"{path} does not fit the configured parts: {_listing(found, held, needed)}")


def _quantised_by(model: SALMONN, config: Config) -> str:
    """How the language model is or will be quantised, NO_KIND for not at all."""
    kind = config.model.quantize.kind_of("llm")
    return kind if kind != NO_KIND else folder_method(model.llm.config) or NO_KIND


def _held_shapes(path: Path, *, whole: bool) -> dict[str, Shape]:
    """Read the shapes of a file's tensors under their released names; a `.pth` is mapped, not read."""
    if whole:
        entry = without_ignored(read_checkpoint(path)["model"])
    else:
        data = read_weights(path)
        entry = data["model"] if isinstance(data.get("model"), dict) else data
    entry = {name: value for name, value in entry.items() if isinstance(name, str)}
    return {
        released_name(our_name(name)): tuple(value.shape)
        for name, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


def _listing(found: Mapping[str, list[str]], held: Mapping[str, Shape], needed: Mapping[str, Shape]) -> str:
    """Name at most SHOWN_KEYS keys, the kinds sharing the room."""
    kinds = [kind for kind, names in found.items() if names]
    room = SHOWN_KEYS // len(kinds)
    clauses = []
    for kind in kinds:
        shown = [
            f"{name} {list(held[name])} instead of {list(needed[name])}" if kind == "of another shape" else name
            for name in found[kind][:room]
        ]
        more = len(found[kind]) - len(shown)
        clauses.append(f"{len(found[kind])} {kind} ({', '.join(shown)}{f', and {more} more' if more else ''})")
    return "; ".join(clauses)
