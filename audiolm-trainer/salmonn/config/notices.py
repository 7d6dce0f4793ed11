"""What somebody should know of a configuration that is not wrong: missing parts, and settings without effect.

Each is a (dotted key, sentence). The dry run, the log of a training run, the evaluator and the commands that answer say
them; a model card says what it has of them.
"""

from collections.abc import Iterator

from salmonn.config.paths import Purpose
from salmonn.config.schema import Config, GenerateConfig, ModelConfig, RunConfig

Notice = tuple[str, str]


def find_notices(config: Config, purpose: Purpose) -> list[Notice]:
    """List what should be known before a run.

    Args:
        config: a checked configuration.
        purpose: what it is for; a rehearsal has the notices of training.
    """
    found = list(_missing_parts(config.model, purpose))
    found += _idle_model_settings(config.model)
    found += _quantised(config.model, purpose)
    if purpose in ("train", "dryrun"):
        found += _idle_training_settings(config)
    else:
        found += _idle_decoding_settings(config)
    return found


def _missing_parts(parts: ModelConfig, purpose: Purpose) -> Iterator[Notice]:
    answers = purpose in ("evaluate", "answer")
    if answers and not parts.checkpoint_path:
        yield "model.ckpt", "is none: Q-Former, projection and LoRA are untrained, and the answers mean nothing"
    does = "hears" if answers else "is trained"
    if parts.audio_encoder == "none":
        yield "model.audio_encoder", f"is none: the model {does} with Whisper alone"
    elif parts.audio_encoder == "beats" and not parts.beats_path:
        yield "model.beats_path", f'is "": the model {does} without BEATs, with Whisper alone'
    if parts.audio_encoder != "beats" and parts.beats_path:
        yield "model.beats_path", f"has no effect: model.audio_encoder is {parts.audio_encoder}"
    if not parts.audio_class and parts.audio_encoder_path:
        yield "model.audio_encoder_path", f"has no effect: model.audio_encoder is {parts.audio_encoder}"


def _quantised(parts: ModelConfig, purpose: Purpose) -> Iterator[Notice]:
    quantize = parts.quantize
    if quantize.kind != "none":
        does = "answers" if purpose in ("evaluate", "answer") else "is trained"
        named = " and ".join(dict.fromkeys(quantize.parts))
        yield "model.quantize", f"is {quantize.kind} of {named}: the model {does} with weights of fewer bits"


def _idle_model_settings(parts: ModelConfig) -> Iterator[Notice]:
    if not parts.lora:
        adapter = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules")
        yield from _idle("model", parts, adapter, "has no effect: model.lora is False")
    if not parts.window_level_Qformer:
        windows = ("second_per_window", "second_stride")
        yield from _idle("model", parts, windows, "has no effect: model.window_level_Qformer is False")
    if parts.speech_llama_proj_model and parts.checkpoint_path:
        yield "model.speech_llama_proj_model", "has no effect: model.ckpt holds a projection, which replaces it"
    yield from _idle("model", parts, ("device_8bit",), "has no effect: 8-bit loading is not supported")


def _idle_decoding_settings(config: Config) -> Iterator[Notice]:
    generate = config.generate
    if not generate.do_sample:
        yield from _idle("generate", generate, ("temperature", "top_p"), "has no effect: generate.do_sample is False")
    if generate.num_beams == 1:
        yield from _idle("generate", generate, ("length_penalty",), "has no effect: generate.num_beams is 1")
    if generate.engine == "transformers":
        why = "has no effect: generate.engine transformers decodes run.batch_size_eval clips at a time"
        yield from _idle("run", config.run, ("decode_slots",), why)


def _idle_training_settings(config: Config) -> Iterator[Notice]:
    run, datasets = config.run, config.datasets
    if not run.amp:
        yield from _idle("run", run, ("precision",), "has no effect: run.amp is False, so it is float32")
    if run.epoch_based:
        why = "has no effect: run.epoch_based is True, and an epoch is one pass over the data"
        yield from _idle("run", run, ("iters_per_epoch",), why)
    if not datasets.valid_ann_path:
        keys = ("valid_every", "valid_generate", "best_metric")
        yield from _idle("run", run, keys, "has no effect: there is no datasets.valid_ann_path")


def _idle(
    section: str, values: ModelConfig | GenerateConfig | RunConfig, keys: tuple[str, ...], why: str
) -> Iterator[Notice]:
    """Yield the keys of a section that somebody has set to something else than their default."""
    for key in keys:
        if getattr(values, key) != type(values).model_fields[key].default:
            yield f"{section}.{key}", why
