"""What the pretraining of a part can be told: the section `pretrain` of a YAML file, strict, one class for each part.

In goes a YAML file with `--options`; out comes the settings of its part with absolute paths, or one `ConfigError`
that lists every problem with its file, line and dotted key. A relative path means the working directory where it is
there, else the configuration's folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salmonn.config.config import open_document, without_nulls
from salmonn.config.paths import resolve_path
from salmonn.config.yaml import Document
from salmonn.errors import ConfigError
from salmonn.wording import counted, did_you_mean

SECTION = "pretrain"
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Pretraining(_Section):
    """What every part has.

    Attributes:
        data: folder of the corpus to learn from.
        output: what is written: the part, in float16.
        seed: of everything random.
        threads: of PyTorch; another number adds in another order, and other last digits come out.
        steps, log_freq: optimizer steps, and how often the loss is logged.
        init_lr, min_lr, warmup_steps: linear warm-up to the first rate, then a cosine down to the second.
        beta2, weight_decay, max_grad_norm: of AdamW and of the clipping of gradients.
    """

    part: str
    data: str
    output: str
    seed: NotNegative
    threads: Positive = 1
    steps: Positive
    log_freq: Positive = 25
    init_lr: PositiveFloat
    min_lr: Rate
    warmup_steps: NotNegative
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.98
    weight_decay: Rate = 0.01
    max_grad_norm: PositiveFloat = 1.0


class EncoderSize(_Section):
    """Sizes of a transformer encoder."""

    width: Positive
    layers: Positive
    heads: Positive
    ffn: Positive


class BeatsSize(EncoderSize):
    """Sizes of BEATs: those of its transformer, its patch embedding, and its positional convolution and bias."""

    embed: Positive
    conv_pos: Positive
    conv_pos_groups: Positive
    num_buckets: Positive
    max_distance: Positive


class WhisperPretraining(Pretraining):
    """The Whisper encoder: phoneme, word and word onset of every frame of ten-second windows.

    Attributes:
        check: folder of the corpus that accuracy is measured on.
        batch_size, check_windows: windows in a step and in a measurement.
        check_freq: steps between measurements; the part is written at each of them.
        single_share: windows with one utterance and silence, as in evaluation; the others are filled.
        silence_weight: what a frame without speech counts in the loss, a spoken one being 1.
        masked_share, masked_bands: windows in which a band of mel bins is hidden, and fewest and most bins of it.
    """

    part: Literal["whisper"]
    check: str
    batch_size: Positive
    check_windows: Positive
    check_freq: Positive
    single_share: Share
    silence_weight: Share
    masked_share: Share
    masked_bands: Range
    model: EncoderSize


class BeatsPretraining(Pretraining):
    """BEATs: which classes of sound are heard at every token of random crops.

    Attributes:
        check: folder of the corpus that accuracy is measured on.
        batch_size, check_clips: crops in a step, and clips in a measurement.
        check_freq: steps between measurements; the part is written at each of them.
        crop_columns: fewest and most columns of patches (160 ms each) in a crop.
        level_db: a crop is made at most so much louder or softer.
        positive_weight: what a class that is heard counts in the loss, one that is not being 1.
    """

    part: Literal["beats"]
    check: str
    batch_size: Positive
    check_clips: Positive
    check_freq: Positive
    crop_columns: Range
    level_db: Rate
    positive_weight: PositiveFloat
    model: BeatsSize


class LlamaPretraining(Pretraining):
    """The language model, on text alone: words and sound labels stand in the audio slots.

    Attributes:
        prompt_path, prompt_template: the wordings of the tasks, as in the stages that follow.
        speech_batch, scene_batch: utterances and captions in a step.
        windows, window_seconds: audio slots, and how much of a clip each of them stands for.
        vocabulary: most tokens of the tokenizer.
        max_txt_len: longest target in tokens.
    """

    part: Literal["llama"]
    prompt_path: str
    prompt_template: str
    speech_batch: Positive
    scene_batch: Positive
    windows: Positive
    window_seconds: PositiveFloat
    vocabulary: Positive
    max_txt_len: Positive
    model: EncoderSize


PARTS: Mapping[str, type[Pretraining]] = {
    "whisper": WhisperPretraining,
    "beats": BeatsPretraining,
    "llama": LlamaPretraining,
}
_READ = {"data": "folder", "check": "folder", "prompt_path": "file"}


def load_pretraining(path: Path, options: Sequence[str] = ()) -> Pretraining:
    """Read the section `pretrain` of a YAML file: a `WhisperPretraining`, `BeatsPretraining` or `LlamaPretraining`.

    Args:
        path: The YAML file.
        options: Overrides "pretrain.steps=10", or pairs "pretrain.steps", "10".

    Raises:
        ConfigError: Anything is wrong; every problem is listed with file and line.
    """
    document = open_document(path, options)
    section = document.tree.get(SECTION)
    problems = [
        (key, "does not belong beside pretrain: pretraining a part reads this section alone")
        for key in document.tree
        if key != SECTION
    ]
    if not isinstance(section, dict):
        raise _error(document, [*problems, (SECTION, "is a section: its keys belong indented under it")])
    kind = PARTS.get(str(section.get("part")))
    if kind is None:
        known = ", ".join(PARTS)
        raise _error(
            document, [*problems, (f"{SECTION}.part", f"must be one of {known} (found {section.get('part')!r})")]
        )
    section = _absolute(without_nulls(section, kind), path.resolve().parent)
    try:
        settings = kind.model_validate(section)
    except ValidationError as error:
        raise _error(document, [*problems, *_schema_problems(error, kind)]) from None
    problems += _path_problems(settings)
    if problems or document.problems:
        raise _error(document, problems)
    return settings


def _absolute(section: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths absolute; what is yet to be written lies in the configuration's folder."""
    changed = {name: resolve_path(section[name], folder) for name in _READ if isinstance(section.get(name), str)}
    output = section.get("output")
    if isinstance(output, str) and output:
        changed["output"] = str((folder / Path(output).expanduser()).resolve())
    return {**section, **changed}


def _path_problems(settings: Pretraining) -> Iterable[tuple[str, str]]:
    for name, kind in _READ.items():
        value = getattr(settings, name, None)
        if value is None:
            continue
        path = Path(value)
        if not (path.is_dir() if kind == "folder" else path.is_file()):
            yield f"{SECTION}.{name}", f"{value or repr('')} is no {kind}; `python -m nano.make_data` makes the corpora"
    if not settings.output:
        yield f"{SECTION}.output", "must not be empty: it is where the part is written"


def _schema_problems(error: ValidationError, kind: type[Pretraining]) -> Iterable[tuple[str, str]]:
    for problem in error.errors(include_url=False):
        location = tuple(str(part) for part in problem["loc"])
        key = ".".join((SECTION, *location))
        if problem["type"] == "missing":
            yield key, "is missing"
        elif problem["type"] == "extra_forbidden":
            yield key, "is not a setting" + did_you_mean(location[-1], kind.model_fields)
        else:
            message = problem["msg"]
            yield key, f"{message[:1].lower()}{message[1:]} (found {problem['input']!r})"


def _error(document: Document, problems: Sequence[tuple[str, str]]) -> ConfigError:
    located = [*document.problems, *((document.label(key), text) for key, text in problems)]
    return ConfigError(f"the configuration has {counted(len(located), 'problem')}", located)
