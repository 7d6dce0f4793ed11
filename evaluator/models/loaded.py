"""Loading a model of the transformers library and putting it behind the contract.

In: its folder or name, the auto class and the sections of the configuration. Out: an object with `sampling_rate` and
`generate`. Weights that lack a tensor of the model are refused: it would be a random one.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.errors import ModelLoadError
from evaluator.model import Answer, Request
from evaluator.models.auto_class import AutoClass
from evaluator.models.batching import BatchedLM
from evaluator.models.chat import Chat
from evaluator.models.prompts import PromptBook
from evaluator.models.speech import Ctc, EncoderDecoder
from evaluator.wording import named

MOST_NEW_TOKENS = 200


class LoadedLM(BatchedLM):
    """A loaded model that knows its device's memory."""

    device: Any = None

    def peak_memory(self) -> int | None:
        """The most bytes of the GPU that were in use; None on a CPU."""
        import torch

        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def load(
    name: str,
    found: AutoClass,
    settings: Any,
    config: Mapping[str, Any],
    device: str,
    book: PromptBook,
    origin: Mapping[str, Any],
) -> LoadedLM:
    """Load a model.

    Args:
        name: its folder or name.
        found: the class that loads it, and how it is asked.
        settings: its configuration.
        config: the sections "model", "generate", "run".
        device: where it goes: "auto", "cpu", "cuda:1".
        book: the prompts.
        origin: arguments of `from_pretrained`: revision, trust_remote_code.

    Raises:
        ModelLoadError: it hears no audio, or weights are missing.
    """
    import torch
    import transformers

    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()
    processor = library.AutoProcessor.from_pretrained(name, **origin)
    audio = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
    if audio is None or not hasattr(processor, "tokenizer"):
        raise ModelLoadError(f"{name} hears no audio: its processor is {type(processor).__name__}.")
    more = {key: config["model"][key] for key in ("attn_implementation",) if config["model"].get(key)}
    model, told = getattr(library, found.name).from_pretrained(
        name, dtype=_dtype(config["model"].get("dtype", "auto"), place), output_loading_info=True, **more, **origin
    )
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise ModelLoadError(f"{name} has no weights for {len(missing)} tensor(s) of the model: {named(missing)}.")
    model = model.to(place).eval()
    rate = int(getattr(audio, "sampling_rate", None) or 16000)
    seeded = _Seeded(int(config["run"]["seed"]))
    generation = _generation(model, config["generate"]) if found.way != "ctc" else None
    asked: Any
    if found.way == "ctc":
        asked = Ctc(model, processor)
    elif found.way == "speech":
        asked = EncoderDecoder(model, processor, generation)
    else:
        language = config["model"].get("language")
        asked = Chat(model, processor, generation, book, rate, {"language": language} if language else {})
    sampled = generation is not None and bool(generation.do_sample)
    loaded = LoadedLM(
        lambda batch: seeded(asked.ask, batch) if sampled else asked.ask(batch),
        sampling_rate=rate,
        # A sampled answer draws from a generator of its clip alone.
        most=1 if sampled else int(config["run"]["batch_size_eval"]),
        alike=asked.alike,
        is_full=_is_full,
    )
    loaded.device = place
    return loaded


class _Seeded:
    """Asks with random numbers that depend on the clip's row alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, ask: Any, batch: Sequence[Request]) -> Sequence[Answer]:
        import torch

        torch.manual_seed(self._seed * 1_000_003 + batch[0].index)
        answers: Sequence[Answer] = ask(batch)
        return answers


def _dtype(name: str, place: Any) -> Any:
    import torch

    if name == "auto":
        return torch.bfloat16 if place.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, name)


def _generation(model: Any, generate: Mapping[str, Any]) -> Any:
    """The model's own generation configuration with the user's settings over it."""
    settings = copy.deepcopy(model.generation_config)
    settings.max_length = None
    settings.update(**{"max_new_tokens": MOST_NEW_TOKENS, "do_sample": False, "num_beams": 1, **generate})
    return settings


def _is_full(error: BaseException) -> bool:
    import torch

    full = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, full) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
