"""What can be configured: the sections model, generate, datasets and run of the SALMONN YAML schema.

In goes a YAML file with `--options`, or a plain mapping; out comes a frozen `Config` with absolute paths, or
one `ConfigError` that lists every problem with its file, line and dotted key and names the key that was
probably meant. A relative path means the working directory first, then the configuration's folder.
"""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from salmonn.config.choices import choice_problems
from salmonn.config.paths import PATHS, Purpose, means_untrained, path_problems, resolve_paths, without_folder
from salmonn.config.yaml import Document, YamlError, read_document
from salmonn.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SECTIONS = ("model", "generate", "datasets", "run")
EVALUATOR_SECTIONS = ("scoring",)
EVALUATOR_KEYS = frozenset({"on_audio_error", "empty_text", "latency_clips"})
"""Keys of `run` that only the evaluator reads; a file for both programs may have them."""
TOKEN_VARIABLE = "HF_TOKEN"

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelConfig(_Section):
    """The components, what is trained, and the prompt. Paths are files or folders; "" means none.

    Attributes:
        llama_path: the language model with its tokenizer: a folder, or a name on the hub.
        whisper_path: the Whisper model: a folder, or a name on the hub.
        beats_path: the BEATs file; "" runs with Whisper alone.
        qformer_path: folder or JSON file with the Q-Former's sizes; "" means those of BERT-base.
        ckpt: what training produced. A model that answers needs it; "none" means that an untrained one is wanted.
        speech_llama_proj_model: a file that the projection alone is taken from.
        token: of the hub; better in the environment variable HF_TOKEN, which is read first. It is never shown.
        dtype: how encoders and language model are held; "auto" is bfloat16 on GPUs that have it, else float32.
        freeze_whisper: True; the Whisper encoder is not trained.
        freeze_beats: True; BEATs is not trained.
        use_speech_Qformer: True; there is no model without Q-Former.
        freeze_speech_QFormer: whether the Q-Former stays as it is in training.
        window_level_Qformer: whether the Q-Former looks at windows, or once at the whole clip.
        num_speech_query_token: queries, and so audio tokens, of a window.
        second_per_window: seconds of a window.
        second_stride: seconds from one window to the next.
        freeze_speech_llama_proj: whether the projection stays as it is in training.
        lora: whether the language model has an adapter.
        lora_rank: rank of the adapter, as the checkpoint was trained.
        lora_alpha: scale of the adapter, as the checkpoint was trained.
        lora_dropout: dropout of the adapter in training.
        lora_target_modules: the linear layers that get an adapter.
        merge_lora: adds the adapter to the weights when the model is loaded to answer: steps are faster; in float16 and
            bfloat16 the weights are rounded anew, and an answer can differ.
        multi_prompt: whether training draws a wording for every sample, or one for a batch.
        prompt_template: the chat template around a prompt, whose place is {}; "" for none.
        prompt_path: JSON file of the training prompts, several wordings a task.
        test_prompt_path: JSON file of the prompts that answers are asked with, one wording a task.
        max_txt_len: tokens of a training target; longer ones are cut before the end symbol.
        end_sym: what ends an answer; best one token of the language model.
        only_preprocessor: False; of the original.
        low_resource: False; of the original. `dtype` chooses the precision.
        device_8bit: of the original; without effect.
    """

    llama_path: str
    whisper_path: str
    beats_path: str = ""
    qformer_path: str = ""
    ckpt: str = ""
    speech_llama_proj_model: str = ""
    token: Annotated[SecretStr, Field(strict=False)] = SecretStr("")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    freeze_whisper: bool = True
    freeze_beats: bool = True
    use_speech_Qformer: bool = True  # noqa: N815 - the schema's own names
    freeze_speech_QFormer: bool = False  # noqa: N815
    window_level_Qformer: bool = True  # noqa: N815
    num_speech_query_token: Positive = 1
    second_per_window: PositiveFloat = 0.333333
    second_stride: PositiveFloat = 0.333333
    freeze_speech_llama_proj: bool = False

    lora: bool = True
    lora_rank: Positive = 8
    lora_alpha: Positive = 32
    lora_dropout: Fraction = 0.1
    lora_target_modules: Annotated[list[str], Field(min_length=1)] = ["q_proj", "v_proj"]
    merge_lora: bool = False

    multi_prompt: bool = False
    prompt_template: str = ""
    prompt_path: str = ""
    test_prompt_path: str = ""
    max_txt_len: Positive = 128
    end_sym: str = "</s>"

    only_preprocessor: bool = False
    low_resource: bool = False
    device_8bit: int = 0

    @property
    def checkpoint_path(self) -> str:
        """The checkpoint, "" where none is named or an untrained model is meant (`ckpt: none`)."""
        return "" if means_untrained("model.ckpt", self.ckpt) else self.ckpt


class GenerateConfig(_Section):
    """How answers are decoded.

    Attributes:
        engine: "own" is the decoder of this package, token-equal to transformers' and faster; "transformers" is its
            `generate`, for language models that the own one refuses.
        max_new_tokens: tokens of the longest answer.
        num_beams: beams of the search; 1 takes the likeliest token each time.
        do_sample: whether tokens are drawn.
        min_length: fewest tokens of an answer. 1, which every configuration of the original has, leaves an empty answer
            possible: there it counts the prompt's.
        temperature: counts with `do_sample`.
        top_p: counts with `do_sample`.
        repetition_penalty: above 1 makes tokens that were said less likely.
        length_penalty: above 0 favours longer answers in a beam search, below 0 shorter ones.
        end_sym: what ends an answer; "" means `model.end_sym`.
    """

    engine: Literal["own", "transformers"] = "own"

    max_new_tokens: Positive = 200
    num_beams: Positive = 4
    do_sample: bool = False
    min_length: NotNegative = 1
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    repetition_penalty: PositiveFloat = 1.0
    length_penalty: float = 1.0
    end_sym: str = ""


_LONGEST_ANSWER: int = GenerateConfig.model_fields["max_new_tokens"].default


class DatasetsConfig(_Section):
    """Annotation files (JSON, JSON Lines, or tar shards: `name-{000..012}.tar`) and where their audio is.

    Attributes:
        prefix: folder that audio paths of annotations start from.
        train_ann_path: the training set.
        valid_ann_path: the validation set; "" trains without one.
        test_ann_path: the evaluator's, for every mode; deprecated.
        test_ann_path_asr: the evaluator's, for the asr modes.
        test_ann_path_aac: the evaluator's, for the aac modes.
        whisper_path: of the original; the features are the model's own.
        cache_dir: folder of memory-mapped annotations and, with `run.cache_features: disk`, of encoded clips; "" means
            `run.output_dir`/cache.
        task_weights: task -> weight: a row of a task with weight 2 is drawn twice as often as one of a task with weight
            1; empty draws every row once a pass.
    """

    prefix: str = ""
    train_ann_path: str = ""
    valid_ann_path: str = ""
    test_ann_path: str = ""
    test_ann_path_asr: str = ""
    test_ann_path_aac: str = ""
    whisper_path: str = ""
    cache_dir: str = ""
    task_weights: dict[str, PositiveFloat] = {}


class OptimConfig(_Section):
    """AdamW and its schedule, rates per step: a linear warm-up, then a cosine over the whole run.

    Attributes:
        max_epoch: epochs of the run.
        warmup_steps: steps of the warm-up.
        warmup_start_lr: rate of the first step.
        init_lr: rate at the end of the warm-up.
        min_lr: rate at the end of the run.
        weight_decay: of matrices.
        beta2: of AdamW; beta1 is 0.9.
    """

    max_epoch: Positive = 30
    warmup_steps: NotNegative = 3000
    warmup_start_lr: Rate = 1e-6
    init_lr: PositiveFloat = 3e-5
    min_lr: Rate = 1e-5
    weight_decay: Rate = 0.05
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999


class RunConfig(_Section):
    """One training run, and what answering shares with it.

    Attributes:
        seed: of everything random.
        output_dir: folder of the runs.
        exp_name: a name for the run, of the original.
        device: "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1".
        log_freq: steps between lines of the log.
        epoch_based: True makes an epoch of one pass over the data, False of `iters_per_epoch` steps.
        iters_per_epoch: steps of an epoch.
        accum_grad_iters: steps between updates of the weights.
        batch_size_train: with `world_size` the samples of a step, and the most that a process computes at once.
        batch_size_eval: clips that are encoded together to answer.
        decode_slots: clips that are decoded at a time; 0 means as many as free memory and the device's speed allow.
        bucket_by_length: whether batches are of texts of similar length: less padding.
        drop_last: whether the rest of a pass that fills no batch is left out.
        num_workers: threads that read audio ahead.
        max_unreadable: clips that may be unreadable and are left out; one more stops the run.
        world_size: a step takes `batch_size_train` x `world_size` samples, however many processes share them.
        parallel: "fsdp2" cuts the language model over the processes.
        amp: whether training computes in mixed precision.
        precision: counts with `amp`; "auto" is bfloat16 on GPUs that have it, else float16; float32 on a CPU.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip.
        cache_features: keeps the frozen encoders' outputs as float16: True in memory, "disk" under
            `datasets.cache_dir`.
        valid_every: steps between validations; 0 validates at the end of an epoch only.
        valid_generate: clips of the validation set that are answered for WER and chrF.
        best_metric: what `checkpoint_best.pth` is best at.
        save_every: steps between checkpoints; 0 saves at the end of an epoch only.
        keep_last: checkpoints that are kept besides the best.
        trackers: where figures go besides `metrics.jsonl`.
        use_distributed: of the original; how many processes there are is up to the command that starts them.
        dist_url: of the original; without effect.
        evaluate: False; of the original. The evaluator measures.
    """

    seed: NotNegative = 42
    output_dir: str = "output"
    exp_name: str = ""
    device: str = "auto"
    log_freq: Positive = 5
    epoch_based: bool = False
    iters_per_epoch: Positive = 3000
    accum_grad_iters: Positive = 1
    batch_size_train: Positive = 8
    batch_size_eval: Positive = 8
    decode_slots: NotNegative = 0
    bucket_by_length: bool = False
    drop_last: bool = True
    num_workers: NotNegative = 8
    max_unreadable: NotNegative = 10
    world_size: Positive = 1
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    amp: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_grad_norm: Rate = 0.0
    cache_features: bool | Literal["disk"] = False
    optims: OptimConfig = OptimConfig()

    valid_every: NotNegative = 0
    valid_generate: NotNegative = 0
    best_metric: Literal["accuracy", "loss", "wer", "chrf"] = "accuracy"
    save_every: NotNegative = 0
    keep_last: Positive = 3
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = ["tensorboard"]

    use_distributed: bool = False
    dist_url: str = "env://"
    evaluate: bool = False


class Config(_Section):
    """A whole configuration; `public()` is what may be shown, logged and stored."""

    model: ModelConfig
    generate: GenerateConfig = GenerateConfig()
    datasets: DatasetsConfig = DatasetsConfig()
    run: RunConfig = RunConfig()

    @property
    def token(self) -> str | None:
        """The hub token: the environment's, else the file's, else None."""
        return os.environ.get(TOKEN_VARIABLE) or self.model.token.get_secret_value() or None

    @property
    def end_sym(self) -> str:
        """The text that ends an answer when decoding: `generate.end_sym`, else `model.end_sym`."""
        return self.generate.end_sym or self.model.end_sym

    def public(self) -> dict[str, Any]:
        """Return the configuration as plain nested dicts without the token."""
        return self.model_dump(mode="json", exclude={"model": {"token"}})

    def shareable(self) -> dict[str, Any]:
        """Return `public()` with every path reduced to its last component: what files that people pass on may carry.

        How a model is loaded to answer (`merge_lora`) is no property of its weights and is left out.

        Example:
            "/home/kim/models/llama" -> "llama"; the hub's "openai/whisper-large-v2" stays.
        """
        tree = self.public()
        del tree["model"]["merge_lora"]
        for dotted in (*PATHS, "datasets.cache_dir", "run.output_dir"):
            section, _, name = dotted.partition(".")
            tree[section][name] = without_folder(tree[section][name], hub=dotted in PATHS and PATHS[dotted].hub)
        return tree


def load_config(path: Path, options: Sequence[str] = (), *, purpose: Purpose = "evaluate") -> Config:
    """Read a YAML file.

    Args:
        path: the YAML file.
        options: overrides "a.b=1", or pairs "a.b", "1".
        purpose: what the configuration is for; see `Purpose`.

    Raises:
        ConfigError: anything is wrong; every problem is listed with file and line.
    """
    return _build_config(open_document(path, options), path.resolve().parent, purpose)


def open_document(path: Path, options: Sequence[str] = ()) -> Document:
    """Read a YAML file and its overrides without judging what they say.

    Raises:
        ConfigError: the file cannot be read, is not YAML or has no mapping at its top.
    """
    try:
        return read_document(path, options)
    except YamlError as error:
        raise ConfigError(f"the configuration {error}") from error


def from_mapping(mapping: Mapping[str, Any], folder: Path | None = None, *, purpose: Purpose = "evaluate") -> Config:
    """Build a configuration from nested mappings.

    Args:
        mapping: {"model": {...}, "generate": {...}, "datasets": {...}, "run": {...}}, all but model optional.
        folder: where relative paths are looked for after the working directory.
        purpose: what the configuration is for; see `Purpose`.

    Raises:
        ConfigError: anything is wrong; every problem is listed.
    """
    return _build_config(Document(path=None, tree=_plain(mapping)), folder, purpose)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Lay nested sections out flat: {"run": {"seed": 1}} -> {"run.seed": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def find_problems(
    mapping: Mapping[str, Any], folder: Path | None = None, *, purpose: Purpose = "evaluate"
) -> list[tuple[str, str]]:
    """List everything wrong with a configuration as (dotted key, message), without loading anything.

    Example:
        >>> find_problems({"model": {"llama_path": "/none", "whisper_path": "/none"}})[0][0]
        'model.llama_path'
    """
    tree = _own_part(_plain(mapping))
    problems = [*_section_problems(tree), *_schema_problems(tree)]
    problems += choice_problems(tree, purpose, longest=_LONGEST_ANSWER)
    problems += path_problems(resolve_paths(tree, folder), folder, purpose)
    return list(dict.fromkeys(problems))


def _build_config(document: Document, folder: Path | None, purpose: Purpose) -> Config:
    located: list[tuple[str, str]] = [*document.problems]
    located += [(document.label(key), text) for key, text in find_problems(document.tree, folder, purpose=purpose)]
    if not located:
        return Config.model_validate(_known(resolve_paths(_own_part(document.tree), folder)))
    count = "1 problem" if len(located) == 1 else f"{len(located)} problems"
    raise ConfigError(f"the configuration has {count}", located)


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested mappings into dicts, so that nothing here changes the caller's."""
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in mapping.items()}


def _own_part(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only the evaluator reads."""
    own = {key: value for key, value in tree.items() if key not in EVALUATOR_SECTIONS and value is not None}
    if isinstance(own.get("run"), dict):
        own["run"] = {key: value for key, value in own["run"].items() if key not in EVALUATOR_KEYS}
    return own


def _known(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of the schema, without keys whose value is null: they have their defaults."""
    return without_nulls({key: tree[key] for key in SECTIONS if key in tree}, Config)


def without_nulls(values: Mapping[str, Any], section: type[BaseModel]) -> dict[str, Any]:
    """Leave out what is not given: the known keys, nested ones too, whose value is None.

    An unknown key stays: it is wrong with any value.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        known = section.model_fields.get(key)
        kind = known.annotation if known else None
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            kept[key] = without_nulls(value, kind)
        elif value is not None or known is None:
            kept[key] = value
    return kept


def _section_problems(tree: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Sections that are misspelt (others are some other program's) or are values instead of sections."""
    if "model" not in tree:
        yield "model", "the section is missing"
    for key, value in tree.items():
        if key in SECTIONS and not isinstance(value, dict):
            yield key, "is a section: its keys belong indented under it"
        near = difflib.get_close_matches(key, SECTIONS, n=1)
        if key not in SECTIONS and near:
            yield key, f"is no section; did you mean {near[0]}?"


def _schema_problems(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    known = _known({key: value for key, value in tree.items() if isinstance(value, dict)})
    if "model" not in known:
        known["model"] = {"llama_path": "-", "whisper_path": "-"}
    try:
        Config.model_validate(known)
    except ValidationError as error:
        # A setting of several types has one error for each of them.
        by_key: dict[tuple[str, ...], list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            by_key.setdefault(_key_path(detail["loc"]), []).append(detail)
        return [_describe(path, details) for path, details in by_key.items()]
    return []


def _key_path(location: Sequence[int | str]) -> tuple[str, ...]:
    """The part of a pydantic location that names keys: behind a setting of several types stands a type's name."""
    section: type[BaseModel] = Config
    for depth, part in enumerate(location, start=1):
        field = section.model_fields.get(str(part))
        if field is None:
            break
        if get_origin(field.annotation) in (Union, UnionType):
            location = location[:depth]
            break
        if not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        section = field.annotation
    return tuple(str(part) for part in location)


def _describe(path: tuple[str, ...], details: "Sequence[ErrorDetails]") -> tuple[str, str]:
    key = ".".join(path)
    kind, value = details[0]["type"], details[0]["input"]
    if kind == "missing":
        return key, "is missing"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_of(path[:-1]), n=1)
        return key, "is not a setting" + (f"; did you mean {near[0]}?" if near else "")
    message = ", or ".join(f"{detail['msg'][:1].lower()}{detail['msg'][1:]}" for detail in details)
    shown = "" if path[-1] == "token" else f" (found {value!r})"
    return key, f"{message}{shown}"


def _keys_of(location: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[part].annotation
        assert isinstance(annotation, type)
        section = annotation
    return [*section.model_fields, *(EVALUATOR_KEYS if location == ("run",) else ())]
