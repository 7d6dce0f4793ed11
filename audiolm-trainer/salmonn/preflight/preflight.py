"""What can be known to be wrong with a training run before any weight is read, all at once.

One `ConfigError` tells every problem as (dotted key, sentence). Missing files are found when the configuration is read;
here the parts are held against each other: the end symbol and the tokenizer, prompts and tasks, a checkpoint's shapes
and the sizes of the configured parts, precision and device.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from transformers import GenerationConfig

from salmonn.chat_template import CHAT, rendered
from salmonn.config.schema import Config
from salmonn.decoding.decoder_settings import merged_settings, refuse_unsupported
from salmonn.decoding.decoder_support import check_architecture
from salmonn.decoding.transformers_decoding import GenerationSettings
from salmonn.device import choose_device
from salmonn.errors import CheckpointError, ConfigError, PromptError
from salmonn.model.meta import llm_sizes
from salmonn.preflight.parts import Problem, file_problems, find_tokenizer, fit_problems, part_problems, sentence
from salmonn.preflight.quantise import quantise_problems
from salmonn.prompts import PromptBook
from salmonn.weights.hub import local_copy
from salmonn.wording import counted, did_you_mean

GENERATED_METRICS = ("wer", "chrf")


def check_before_training(config: Config) -> None:
    """Report everything that can be known to be wrong without weights.

    Reads the prompt files, the language model's tokenizer, the parts' `config.json` and the headers of the checkpoints.
    Only a hub name asks the network, and only if it is not in the cache.

    Raises:
        ConfigError: anything is wrong; every problem is listed with its key.
    """
    problems = find_training_problems(config, offline=False)
    if problems:
        raise ConfigError(f"this run cannot be trained: {counted(len(problems), 'problem')}", problems)


def find_training_problems(config: Config, *, offline: bool) -> list[tuple[str, str]]:
    """List what is wrong as (dotted key, sentence).

    Args:
        config: a configuration whose files are there.
        offline: pass over what only the hub could tell.
    """
    found = [*_device_problems(config.run.device), *_precision_problems(config), *_validation_problems(config)]
    found += _prompt_problems(config)
    found += _model_problems(config, config.run.device, offline=offline, answers=False)
    return [(problem.key, problem.text) for problem in dict.fromkeys(found)]


def check_before_answering(config: Config, device: str) -> None:
    """Report everything that can be known to be wrong with a model that answers, without weights.

    Raises:
        ConfigError: anything is wrong; every problem is listed with its key.
    """
    problems = find_answering_problems(config, device)
    if problems:
        raise ConfigError(f"this model cannot be loaded: {counted(len(problems), 'problem')}", problems)


def find_answering_problems(config: Config, device: str) -> list[tuple[str, str]]:
    """List what is wrong with a model that answers as (dotted key, sentence).

    Args:
        config: a configuration whose files are there.
        device: "auto", "cpu", "cuda", "cuda:1".
    """
    found = [*_device_problems(device), *_model_problems(config, device, offline=False, answers=True)]
    return [(problem.key, problem.text) for problem in dict.fromkeys(found)]


def _model_problems(config: Config, device: str, *, offline: bool, answers: bool) -> Iterator[Problem]:
    """Yield what is wrong with the parts, with the tokenizer, and with what does not belong together."""
    parts = part_problems(config, offline=offline)
    yield from parts
    if not parts:
        yield from quantise_problems(config, device, offline=offline, answers=answers)
    # What the hub does not have is not asked for again.
    if (
        offline
        or not any(problem.key == "model.llama_path" for problem in parts)
        or Path(config.model.llama_path).is_dir()
    ):
        yield from _tokenizer_problems(config, offline=offline, answers=answers)
    yield from file_problems(config) if parts else fit_problems(config, offline=offline)
    answers = answers or bool(config.run.valid_generate and config.datasets.valid_ann_path)
    if answers and not parts and config.generate.engine == "own":
        yield from _decoder_problems(config)


def _decoder_problems(config: Config) -> Iterator[Problem]:
    """Ask our own decoder whether it can run the language model, as far as the files say that are here."""
    folder = local_copy(config.model.llama_path)
    if not Path(folder).is_dir():
        return
    asked = GenerationSettings.of(config.generate).for_transformers(eos_ids=[0], bos_id=None)
    try:
        sizes = llm_sizes(folder, token=None, offline=True)
        check_architecture(sizes, Path(folder).name, new_tokens=config.generate.max_new_tokens)
        if (Path(folder) / "generation_config.json").is_file():
            refuse_unsupported(merged_settings(GenerationConfig.from_pretrained(folder), asked))
    except ConfigError as error:
        yield Problem("generate.engine", sentence(error))
    except Exception as error:  # noqa: BLE001 - transformers raises whatever its reading of a file comes to
        yield Problem("model.llama_path", f"{folder}/generation_config.json cannot be read: {sentence(error)}")


def _device_problems(name: str) -> Iterator[Problem]:
    try:
        choose_device(name)
    except ConfigError as error:
        yield Problem("run.device", sentence(error))


def _precision_problems(config: Config) -> Iterator[Problem]:
    run = config.run
    try:
        device = choose_device(run.device)
    except ConfigError:
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
        tasks = sorted(PromptBook.from_files(Path(config.model.prompt_path)).wordings)
    except PromptError as error:
        yield Problem("model.prompt_path", sentence(error))
    else:
        yield from _weight_problems(config.datasets.task_weights, tasks)
    if config.run.valid_generate and config.model.test_prompt_path:
        try:
            PromptBook.from_files(Path(config.model.test_prompt_path))
        except PromptError as error:
            yield Problem("model.test_prompt_path", sentence(error))


def _weight_problems(weights: Mapping[str, float], tasks: Iterable[str]) -> Iterator[Problem]:
    known = list(tasks)
    for task in weights:
        if task not in known:
            hint = did_you_mean(task, known) or f" (known: {', '.join(known)})"
            yield Problem(f"datasets.task_weights.{task}", f"is no task of model.prompt_path{hint}")


def _tokenizer_problems(config: Config, *, offline: bool, answers: bool) -> Iterator[Problem]:
    """Try the tokenizer; only training needs an end symbol of one token."""
    path = config.model.llama_path
    try:
        tokenizer = find_tokenizer(config, offline=offline)
    except CheckpointError as error:
        yield Problem("model.llama_path", sentence(error))
        return
    if tokenizer is None:
        return
    if config.model.prompt_template == CHAT:
        try:
            rendered(tokenizer, path)
        except PromptError as error:
            yield Problem("model.prompt_template", sentence(error))
    if answers:
        return
    eos = tokenizer.eos_token
    own = f"; the tokenizer's own is {eos!r}" if eos else ""
    for key, symbol in (("model.end_sym", config.model.end_sym), ("generate.end_sym", config.generate.end_sym)):
        count = len(tokenizer(symbol, add_special_tokens=False)["input_ids"]) if symbol else 1
        if count != 1:
            yield Problem(key, f"{symbol!r} becomes {count} tokens of {path} and must be one{own}")
