"""What can be known to be wrong with a training run before any weight is read, all at once.

In goes a checked configuration; out comes nothing, or one `ConfigError` with every problem as (dotted key, sentence).
Files that are missing are the configuration's own business; here the parts are held against each other: the end symbol
and the tokenizer, prompts and tasks, a checkpoint's shapes and the sizes of the configured parts, precision and device.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from salmonn.checkpoint import our_name, read_checkpoint, read_weights, released_name, trained_part
from salmonn.components import choose_device, load_tokenizer
from salmonn.config import Config
from salmonn.errors import CheckpointError, ConfigError, PromptError
from salmonn.meta_model import build_meta_model
from salmonn.prompts import test_prompts, train_prompts

SHOWN_KEYS = 12
PROJECTION = "speech_llama_proj."
GENERATED_METRICS = ("wer", "chrf")

Shape = tuple[int, ...]

# Released names that start so take their sizes from these keys.
_SIZES_FROM: tuple[tuple[str, str], ...] = (
    ("llama_model.", "model.lora_rank, model.lora_target_modules and model.llama_path"),
    ("speech_llama_proj.", "model.llama_path and model.qformer_path"),
    ("speech_query_tokens", "model.num_speech_query_token and model.qformer_path"),
    ("speech_Qformer.", "model.qformer_path"),
    ("ln_speech.", "model.whisper_path"),
    ("ln_audio.", "model.beats_path"),
)


class Problem(NamedTuple):
    """One thing that is wrong: the dotted key to change and a sentence."""

    key: str
    text: str


def check_before_training(config: Config) -> None:
    """Report everything that can be known to be wrong without weights.

    Reads the prompt files, the language model's tokenizer, the parts' `config.json` and the headers of the checkpoints.
    Only a hub name asks the network, and only if it is not in the cache.

    Raises:
        ConfigError: anything is wrong; every problem is listed with its key.
    """
    problems = find_training_problems(config, offline=False)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"this run cannot be trained: {count}", problems)


def find_training_problems(config: Config, *, offline: bool) -> list[tuple[str, str]]:
    """List what is wrong as (dotted key, sentence).

    Args:
        config: a configuration whose files are there.
        offline: pass over what only the hub could tell.
    """
    found = [*_device_problems(config), *_validation_problems(config), *_prompt_problems(config)]
    found += _tokenizer_problems(config, offline=offline)
    found += _weights_problems(config, offline=offline)
    return [(problem.key, problem.text) for problem in dict.fromkeys(found)]


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


def _device_problems(config: Config) -> Iterator[Problem]:
    run = config.run
    try:
        device = choose_device(run.device)
    except ConfigError as error:
        yield Problem("run.device", _sentence(error))
        return
    if device.type == "cpu" and run.amp and run.precision == "float16":
        yield Problem("run.precision", "float16 needs a GPU; on a CPU use float32, bfloat16 or auto")


def _validation_problems(config: Config) -> Iterator[Problem]:
    run = config.run
    if run.best_metric in GENERATED_METRICS and config.datasets.valid_ann_path and not run.valid_generate:
        text = f"{run.best_metric} is measured on answered clips; set run.valid_generate, for example to 64"
        yield Problem("run.best_metric", text)


def _prompt_problems(config: Config) -> Iterator[Problem]:
    try:
        tasks = sorted(train_prompts(config).wordings)
    except PromptError as error:
        yield Problem("model.prompt_path", _sentence(error))
    else:
        yield from _weight_problems(config.datasets.task_weights, tasks)
    if config.run.valid_generate and config.model.test_prompt_path:
        try:
            test_prompts(config)
        except PromptError as error:
            yield Problem("model.test_prompt_path", _sentence(error))


def _weight_problems(weights: Mapping[str, float], tasks: Iterable[str]) -> Iterator[Problem]:
    known = list(tasks)
    for task in weights:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (known: {', '.join(known)})"
            yield Problem(f"datasets.task_weights.{task}", f"is no task of model.prompt_path{hint}")


def _tokenizer_problems(config: Config, *, offline: bool) -> Iterator[Problem]:
    path = config.model.llama_path
    try:
        tokenizer = find_tokenizer(config, offline=offline)
    except CheckpointError as error:
        yield Problem("model.llama_path", _sentence(error))
        return
    if tokenizer is None:
        return
    eos = tokenizer.eos_token
    own = f"; the tokenizer's own is {eos!r}" if eos else ""
    for key, symbol in (("model.end_sym", config.model.end_sym), ("generate.end_sym", config.generate.end_sym)):
        count = len(tokenizer(symbol, add_special_tokens=False)["input_ids"]) if symbol else 1
        if count != 1:
            yield Problem(key, f"{symbol!r} becomes {count} tokens of {path} and must be one{own}")
    if tokenizer.bos_token_id is None:
        example = f", for example to {eos!r}" if eos else ""
        yield Problem(
            "model.llama_path",
            f"{path} has no token for the beginning of a text; set bos_token in its tokenizer_config.json{example}",
        )


def _weights_problems(config: Config, *, offline: bool) -> Iterator[Problem]:
    """Hold the checkpoints' shapes against those that the configured parts will have."""
    parts = config.model
    try:
        needed = {
            name: tuple(t.shape) for name, t in build_meta_model(config, offline=offline).trained_state_dict().items()
        }
    except CheckpointError as error:
        if not offline:
            yield Problem("model", _sentence(error))
        return
    if parts.checkpoint_path and not (offline and not Path(parts.checkpoint_path).exists()):
        yield from _checkpoint_problems("model.ckpt", parts.checkpoint_path, needed, whole=True)
    if parts.speech_llama_proj_model and not (offline and not Path(parts.speech_llama_proj_model).is_file()):
        projection = {name: shape for name, shape in needed.items() if name.startswith(PROJECTION)}
        yield from _checkpoint_problems(
            "model.speech_llama_proj_model", parts.speech_llama_proj_model, projection, whole=False
        )


def _sentence(error: Exception) -> str:
    """An error's message in one line: those of libraries come in several."""
    return " ".join(str(error).split())


def _checkpoint_problems(key: str, path: str, needed: Mapping[str, Shape], *, whole: bool) -> Iterator[Problem]:
    """Compare one file; `whole` means that it must hold the keys of `needed` and no other."""
    try:
        held = _held_shapes(Path(path), whole=whole)
    except CheckpointError as error:
        yield Problem(key, _sentence(error))
        return
    found = {
        "missing": [name for name in needed if name not in held],
        "unexpected": [name for name in held if name not in needed] if whole else [],
        "of another shape": [name for name in needed if name in held and held[name] != needed[name]],
    }
    if any(found.values()):
        yield Problem(key, f"{path} does not fit the configured parts: {_listing(found, held, needed)}")


def _held_shapes(path: Path, *, whole: bool) -> dict[str, Shape]:
    """Read the shapes of a file's tensors under their released names; a `.pth` is mapped, not read."""
    if whole:
        entry = trained_part(read_checkpoint(path)["model"])
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
    """Name at most SHOWN_KEYS keys, the kinds sharing the room, and the settings that their sizes come from."""
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
    names = [name for kind in kinds for name in found[kind]]
    causes = [keys for prefix, keys in _SIZES_FROM if any(name.startswith(prefix) for name in names)]
    return "; ".join(clauses) + (f"; compare {', '.join(causes)} with the run that wrote it" if causes else "")
