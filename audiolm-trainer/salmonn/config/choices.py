"""Values that are well-formed and yet cannot be: refused modes, settings that contradict one another."""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from typing import Any

from salmonn.config.paths import Purpose, get_value

_REFUSALS: tuple[tuple[str, object, str], ...] = (
    (
        "model.low_resource",
        True,
        "8-bit loading is not supported; set it to False (model.dtype chooses the precision)",
    ),
    ("model.only_preprocessor", True, "loading only the front end is not supported; set it to False"),
    ("model.use_speech_Qformer", False, "a model without Q-Former is not supported; set it to True"),
)
_TRAINING_REFUSALS: tuple[tuple[str, object, str], ...] = (
    ("model.freeze_whisper", False, "the Whisper encoder cannot be trained here; set it to True"),
    ("model.freeze_beats", False, "BEATs cannot be trained here; set it to True"),
    ("model.merge_lora", True, "a merged adapter cannot be trained; set it to False (it is for answering only)"),
    (
        "model.bridge_dtype",
        "bfloat16",
        "the bridge is trained in float32; set it to float32 (others are for answering only)",
    ),
    (
        "model.bridge_dtype",
        "float16",
        "the bridge is trained in float32; set it to float32 (others are for answering only)",
    ),
    ("run.evaluate", True, "train.py only trains; set it to False and measure with the evaluator"),
)


QUANTIZE_LIBRARIES: Mapping[str, str] = {
    "int8": "torchao",
    "int8_dynamic": "torchao",
    "llm_int8": "bitsandbytes",
    "nf4": "bitsandbytes",
}
"""Kind of `model.quantize` -> the package that does it."""
HALF_A_FRAME = 0.01
FRAMES_A_SECOND = 50
LONGEST_CONTEXT = 30.0
"""Seconds."""


def choice_problems(tree: Mapping[str, Any], purpose: Purpose, *, longest: int) -> Iterable[tuple[str, str]]:
    """Yield (dotted key, message) for values that are well-formed and yet cannot be.

    Args:
        tree: sections as plain values; keys may be absent, values of any type.
        purpose: what the configuration is for.
        longest: `generate.max_new_tokens` where it is not written.
    """
    refusals = _REFUSALS + (_TRAINING_REFUSALS if purpose == "train" else ())
    for dotted, refused, message in refusals:
        if get_value(tree, dotted) == refused:
            yield dotted, message
    if purpose == "train":
        yield from _tracker_problems(get_value(tree, "run.trackers"))
    template = get_value(tree, "model.prompt_template")
    if isinstance(template, str) and template not in ("", "chat") and template.count("{}") != 1:
        yield "model.prompt_template", "must hold {} exactly once, the place of the prompt, or be chat"
    if get_value(tree, "model.merge_lora") is True and get_value(tree, "model.lora") is False:
        yield "model.merge_lora", "there is no adapter to merge, for model.lora is False; set one of them to the other"
    encoder = get_value(tree, "model.audio_encoder")
    if isinstance(encoder, str) and not re.fullmatch(r"beats|none|[A-Za-z_][\w.]*:[A-Za-z_]\w*", encoder):
        yield "model.audio_encoder", f"must be beats, none or package.module:Class (found {encoder!r})"
    trained_itself = purpose == "train" and get_value(tree, "model.freeze_llm") is False
    if trained_itself and get_value(tree, "model.lora") is not False:
        yield (
            "model.freeze_llm",
            "is False, and model.lora is True: the language model is trained itself or by an adapter, so set one to "
            "the other's value (python -m salmonn export --format merged merges an adapter that is trained already)",
        )
    yield from _quantize_problems(tree, purpose)
    yield from _decoding_problems(tree, longest)
    yield from _window_problems(tree)
    if get_value(tree, "model.end_sym") == "":
        yield "model.end_sym", "must not be empty: it is what ends an answer"


def _quantize_problems(tree: Mapping[str, Any], purpose: Purpose) -> Iterable[tuple[str, str]]:
    """Quantised weights that cannot be trained beside, merged into or cut, and a kind whose library is not here."""
    settings = get_value(tree, "model.quantize")
    kind = settings.get("kind") if isinstance(settings, Mapping) else None
    library = QUANTIZE_LIBRARIES.get(kind) if isinstance(kind, str) else None
    if library is None or not isinstance(settings, Mapping):
        return
    if importlib.util.find_spec(library) is None:
        yield "model.quantize.kind", f"{kind} needs {library}, which is not installed: pip install {library}"
    parts = settings.get("parts") or ["llm"]
    if isinstance(parts, list) and "llm" in parts:
        if get_value(tree, "model.merge_lora") is True:
            yield "model.merge_lora", f"an adapter cannot be merged into weights that are {kind}; set it to False"
        if purpose == "train" and get_value(tree, "model.freeze_llm") is False:
            yield "model.freeze_llm", f"is False, and weights that are {kind} cannot be trained; set it to True"
        if purpose == "train" and kind == "int8_dynamic":
            yield "model.quantize.kind", "int8_dynamic rounds activations, which lets no gradient through: use int8"
        if get_value(tree, "run.parallel") == "fsdp2":
            yield "run.parallel", f"fsdp2 cannot cut weights that are {kind}; use ddp"


def _tracker_problems(names: object) -> Iterable[tuple[str, str]]:
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and importlib.util.find_spec(name) is None:
            yield "run.trackers", f"{name} is not installed: pip install {name}"


def _decoding_problems(tree: Mapping[str, Any], longest: int) -> Iterable[tuple[str, str]]:
    """Settings of decoding that contradict one another."""
    if get_value(tree, "generate.temperature") == 0 and get_value(tree, "generate.do_sample") is True:
        yield (
            "generate.temperature",
            "must be above 0 to sample; for the likeliest answer set generate.do_sample to False",
        )
    shortest, most = get_value(tree, "generate.min_length"), get_value(tree, "generate.max_new_tokens") or longest
    if isinstance(shortest, int) and isinstance(most, int) and shortest > most:
        yield "generate.min_length", f"is {shortest}, and an answer ends after generate.max_new_tokens, {most}"


def is_whole_frames(seconds: float) -> bool:
    """Whether a time is a whole number of Whisper's frames."""
    return abs(seconds * FRAMES_A_SECOND - round(seconds * FRAMES_A_SECOND)) <= 1e-6


def no_whole_frames(seconds: float) -> str:
    """What is told of a time that is none."""
    return f"is {seconds} s, no whole number of frames: a frame is {2 * HALF_A_FRAME:g} s"


def _window_problems(tree: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """A context that is no whole number of frames, windows that hold no frame or that no clip fills."""
    context = get_value(tree, "model.context_seconds")
    if not isinstance(context, (int, float)):
        context = LONGEST_CONTEXT
    if not is_whole_frames(context):
        yield "model.context_seconds", no_whole_frames(context)
    if get_value(tree, "model.window_level_Qformer") is False:
        return
    for key in ("second_per_window", "second_stride"):
        value = get_value(tree, f"model.{key}")
        if isinstance(value, (int, float)) and 0 < value <= HALF_A_FRAME:
            yield f"model.{key}", f"is {value} s, which rounds to no frame: a frame is {2 * HALF_A_FRAME:g} s"
        if isinstance(value, (int, float)) and value > context and key == "second_per_window":
            yield f"model.{key}", f"is {value} s, and a clip has {context:g} s at most"
