"""The YAML file of `python -m salmonn compress`: what is dropped, and how the rest is healed."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from salmonn.config.choices import is_whole_frames, no_whole_frames
from salmonn.config.config import open_document
from salmonn.config.paths import resolve_path
from salmonn.errors import ConfigError
from salmonn.wording import counted, did_you_mean

FULL = "full"
"""How a language model is healed that is trained itself."""
Count = Annotated[int, Field(ge=0)]


class CompressSettings(BaseModel):
    """What is dropped from a model, and how the rest is healed.

    Attributes:
        train: YAML file of a training of the model: its section model names the model, checkpoint included, datasets
            the sets that choose layers and heal, run how healing is trained.
        output_dir: folder of everything that is made.
        drop_llm_layers: layers that the language model loses.
        drop_whisper_layers: layers that Whisper's encoder loses.
        context_seconds: seconds that the smaller model hears; null keeps them.
        vocabulary: whether the language model loses the tokens that the training set's texts and the prompts do not
            use. What it then hears anew it writes in smaller pieces.
        vocabulary_texts: a text file whose tokens stay as well; "" for none.
        ablation_clips: clips of the validation set on which layers are weighed, spread evenly over it.
        heal: whether the smaller model is trained as `train` says; "full" trains all of its language model's weights
            instead of an adapter, which is merged first, and writes them as a folder.
        distill_weight: part of the loss while healing that the original gives as a teacher; 0 for none. A teacher needs
            the same encoders, so Whisper's layers and its context have to stay.
        distill_temperature: of both models' predictions.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    train: str
    output_dir: str
    drop_llm_layers: Count = 0
    drop_whisper_layers: Count = 0
    context_seconds: Annotated[float, Field(ge=1, le=30)] | None = None
    vocabulary: bool = False
    vocabulary_texts: str = ""
    ablation_clips: Annotated[int, Field(ge=1)] = 200
    heal: bool | Literal["full"] = True
    distill_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    distill_temperature: Annotated[float, Field(gt=0)] = 2.0

    @property
    def drops_layers(self) -> bool:
        """Whether any layer is dropped."""
        return bool(self.drop_llm_layers or self.drop_whisper_layers)


def load_settings(path: Path, options: tuple[str, ...] = ()) -> CompressSettings:
    """Read the section `compress` of a YAML file, with overrides such as "compress.drop_llm_layers=2".

    Raises:
        ConfigError: naming every key that is wrong, with its line.
    """
    document = open_document(path, options)
    section = document.tree.get("compress")
    if not isinstance(section, dict) or set(document.tree) != {"compress"}:
        raise ConfigError(f"{path} needs one section, compress; it has {', '.join(map(str, document.tree)) or 'none'}")
    try:
        settings = CompressSettings.model_validate(section)
    except ValidationError as error:
        problems = [_problem(document, details) for details in error.errors()]
        raise ConfigError(f"the configuration has {counted(len(problems), 'problem')}", problems) from error
    problems = [(document.label(key), text) for key, text in _contradictions(settings)]
    if problems:
        raise ConfigError(f"the configuration has {counted(len(problems), 'problem')}", problems)
    files = {
        key: resolve_path(value, path.resolve().parent)
        for key, value in {"train": settings.train, "vocabulary_texts": settings.vocabulary_texts}.items()
        if value
    }
    problems = [
        (document.label(f"compress.{key}"), f"{file} is no file")
        for key, file in files.items()
        if not Path(file).is_file()
    ]
    if problems:
        raise ConfigError(f"the configuration has {counted(len(problems), 'problem')}", problems)
    return settings.model_copy(update=files)


def _problem(document: Any, details: Any) -> tuple[str, str]:
    key = str(details["loc"][0])
    if details["type"] == "extra_forbidden":
        return document.label(f"compress.{key}"), f"unknown key{did_you_mean(key, CompressSettings.model_fields)}"
    if details["type"] == "missing":
        return document.label("compress"), f"needs the key {key}"
    return document.label(f"compress.{key}"), f"{details['msg'].lower()} (found {details['input']!r})"


def _contradictions(settings: CompressSettings) -> list[tuple[str, str]]:
    found = []
    encoders = settings.drop_whisper_layers or settings.context_seconds is not None
    if not (settings.drop_llm_layers or settings.vocabulary or encoders):
        keys = "drop_llm_layers, drop_whisper_layers, vocabulary or context_seconds"
        found.append(("compress", f"nothing is to be made smaller: set {keys}"))
    if settings.vocabulary_texts and not settings.vocabulary:
        found.append(("compress.vocabulary_texts", "names tokens that stay, and compress.vocabulary is False"))
    seconds = settings.context_seconds
    if seconds is not None and not is_whole_frames(seconds):
        found.append(("compress.context_seconds", no_whole_frames(seconds)))
    if settings.heal and settings.distill_weight and encoders:
        found.append(
            (
                "compress.distill_weight",
                f"is {settings.distill_weight:g}, and a teacher needs the same encoders: set it to 0, or leave Whisper "
                "as it is",
            )
        )
    return found
