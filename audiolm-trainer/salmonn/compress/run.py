"""Makes a trained SALMONN smaller, step by step: drop tokens, weigh layers, drop them, heal; each step is measured.

Everything lies in one folder. A step that is done is not done again, so that the same command goes on after an
interruption; a folder of other settings or another model is refused.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from salmonn.compress.ablation import Round, choose_layers, kept_layers
from salmonn.compress.figures import Row, as_markdown, measure
from salmonn.compress.layers import Part, holder_of
from salmonn.compress.plot import as_svg
from salmonn.compress.pruned_files import (
    write_pruned_checkpoint,
    write_pruned_llm,
    write_pruned_whisper,
    write_small_vocabulary,
)
from salmonn.compress.settings import FULL, CompressSettings
from salmonn.compress.task_texts import task_texts
from salmonn.compress.vocabulary import check_pieces, check_tokenizer, used_vocabulary
from salmonn.config.config import flatten, load_config
from salmonn.config.schema import Config, ModelConfig
from salmonn.data.unreadable import UnreadableClips
from salmonn.device import choose_device, choose_dtype
from salmonn.errors import ConfigError, SalmonnError
from salmonn.export.export import export_model
from salmonn.model.components import load_tokenizer
from salmonn.model.meta import llm_sizes, whisper_sizes
from salmonn.model.salmonn import SALMONN
from salmonn.preflight.preflight import check_before_training
from salmonn.prompts import train_prompts
from salmonn.quantization.folders import folder_method
from salmonn.quantization.kinds import NO_KIND
from salmonn.training.data_split import Split
from salmonn.training.processes import Engine
from salmonn.training.run import build_scorer, build_split, choose_precision, open_set, train
from salmonn.training.run_folder import BEST
from salmonn.training.validation import Validation, teacher_forced
from salmonn.weights.atomic_write import whole_file
from salmonn.weights.checkpoint import holds_language_model, read_checkpoint, save_checkpoint
from salmonn.weights.exported_folder import BRIDGE_FILE
from salmonn.weights.fingerprint import ANSWER_KEYS, fingerprints

logger = logging.getLogger(__name__)

IDENTITY, LAYERS, TABLE, TABLE_PAGE = "settings.json", "layers.json", "table.json", "table.md"
PICTURE = "table.svg"
LLM, WHISPER, CHECKPOINT, TRAIN, TEACHER = "llm", "whisper", "salmonn.pth", "train.yaml", "teacher.yaml"
HEALED, SMALL_VOCABULARY, VOCABULARY = "healed.pth", "llm_vocabulary", "vocabulary.yaml"
TRAINED, TRAINED_CONFIG = "llm_trained", "trained.yaml"
"""The language model of a checkpoint that holds one."""
MERGED, HEALED_LLM = "llm_merged", "llm_healed"
"""The language model that is trained itself: before, and after."""
PLACES = {"output_dir", "train", "vocabulary_texts"}
"""Settings that are files and folders: what they hold counts, not where they lie."""
BY_TOKEN = ("embed_tokens", "lm_head")


def compress(settings: CompressSettings) -> list[Row]:
    """Make a model smaller.

    Args:
        settings: what is dropped, and how the rest is healed.

    Returns:
        list[Row]: the original, without its unused tokens, without its layers, and healed, as far as asked for.

    Raises:
        ConfigError: the settings ask for what the model does not have, or the folder is another compression's.
        SalmonnError: a step cannot be done.
    """
    config = load_config(Path(settings.train), purpose="train")
    if not config.model.checkpoint_path:
        raise ConfigError(f"{settings.train}: model.ckpt is empty; name the checkpoint of the model to make smaller")
    if not config.datasets.valid_ann_path:
        raise ConfigError(f"{settings.train}: datasets.valid_ann_path is empty; layers are weighed on a validation set")
    check_before_training(config)
    require_layers(settings, config)
    require_trainable(settings, config)
    folder = Path(settings.output_dir)
    require_tokens(settings, config)
    claim(folder, settings, config)
    work = _Work(folder, config)
    work.config = work.with_own_folder()
    work.measured("original", lambda: work.config)
    if settings.vocabulary:
        work.config = work.with_used_tokens(settings)
        work.measured("smaller vocabulary", lambda: work.config)
    smaller = work.config
    if settings.drops_layers or settings.context_seconds is not None:
        rounds = work.weighed(settings)
        smaller = work.dropped(settings, rounds)
        work.measured("layers dropped" if rounds else "context cut", lambda: smaller)
    if settings.heal:
        healed = work.healed(settings, smaller)
        work.measured("healed", lambda: healed)
    return work.rows


def require_layers(settings: CompressSettings, config: Config) -> None:
    """Make sure that both parts keep a layer, before a clip is encoded and before the folder is claimed.

    Raises:
        ConfigError: every part that would lose all its layers.
        CheckpointError: how many there are cannot be known.
    """
    parts, token = config.model, config.token
    llm = llm_sizes(parts.llama_path, token=token, offline=False).get_text_config().num_hidden_layers
    whisper = whisper_sizes(parts.whisper_path, token=token, offline=False).encoder_layers
    problems = [
        (f"compress.drop_{part}_layers", f"is {drop}, and the {part} has {has} layers, of which one has to stay")
        for part, drop, has in (
            ("llm", settings.drop_llm_layers, llm),
            ("whisper", settings.drop_whisper_layers, whisper),
        )
        if drop >= has
    ]
    if problems:
        raise ConfigError("more layers are to be dropped than the model can lose", problems)


def require_trainable(settings: CompressSettings, config: Config) -> None:
    """Make sure that a language model that healing is to train itself can be, before a clip is encoded.

    Raises:
        ConfigError: its weights are quantised.
        CheckpointError: how they are held cannot be known.
    """
    if settings.heal != FULL:
        return
    kind = config.model.quantize.kind_of("llm")
    held = (
        kind
        if kind != NO_KIND
        else folder_method(llm_sizes(config.model.llama_path, token=config.token, offline=False))
    )
    if held:
        text = f"is {FULL}, and weights that are {held} cannot be trained: True trains an adapter beside them"
        raise ConfigError("the language model cannot be healed", [("compress.heal", text)])


def require_tokens(settings: CompressSettings, config: Config) -> None:
    """Make sure that a vocabulary that is to become smaller can, before a clip is encoded and a folder claimed.

    Raises:
        ConfigError: the tokenizer is of another kind, or the adapter has a row for each token.
        CheckpointError: there is no tokenizer.
    """
    if not settings.vocabulary:
        return
    check_tokenizer(load_tokenizer(config.model.llama_path, config.token))
    counted_by_token = [name for name in config.model.lora_target_modules if name in BY_TOKEN]
    if config.model.lora and counted_by_token:
        text = f"the adapter changes {counted_by_token[0]}, which has a row for each token (model.lora_target_modules)"
        raise ConfigError("the vocabulary cannot be made smaller", [("compress.vocabulary", text)])


def claim(folder: Path, settings: CompressSettings, config: Config) -> None:
    """Make the folder, or make sure that it is of the same settings and model.

    Raises:
        ConfigError: it is not.
    """
    texts = settings.vocabulary_texts
    wanted = {
        "compress": settings.model_dump(exclude=PLACES),
        "train": config.shareable(),
        "files": fingerprints(config, ANSWER_KEYS)
        | ({"texts": hashlib.sha256(Path(texts).read_bytes()).hexdigest()} if texts else {}),
    }
    path = folder / IDENTITY
    if path.is_file():
        other = list(_differences(json.loads(path.read_text(encoding="utf-8")), wanted))
        if other:
            raise ConfigError(
                f"{folder} has a compression of other settings: choose another compress.output_dir, or delete the "
                "folder to begin anew",
                other,
            )
        return
    _write(path, json.dumps(wanted, indent=1))


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that differ from those of a folder; a key that it does not know yet had its default."""
    defaults = {
        "compress": CompressSettings(train="", output_dir="").model_dump(exclude=PLACES),
        "train": Config(model=ModelConfig(llama_path="", whisper_path="")).shareable(),
        "files": {},
    }
    for section, wanted in now.items():
        had, has = flatten(defaults[section]) | flatten(before[section]), flatten(wanted)
        for key in sorted(had.keys() | has.keys()):
            if had.get(key) == has.get(key):
                continue
            what = "holds something else" if section == "files" else f"was {had.get(key)!r}, is {has.get(key)!r}"
            yield (key if section == "files" else f"{section}.{key}"), what


class _Work:
    """One folder's steps; what each has made is read again where it is there."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        table = folder / TABLE
        self.rows = [Row(**row) for row in json.loads(table.read_text(encoding="utf-8"))] if table.is_file() else []

    def measured(self, step: str, configured: Callable[[], Config]) -> None:
        """Measure a model and add its row to the table, unless it is there."""
        if any(row.step == step for row in self.rows):
            return
        logger.info("measuring: %s", step)
        model, engine = _load(configured())
        self.rows.append(measure(model, step, _validation(configured(), model), engine))
        _write(self.folder / TABLE, json.dumps([asdict(row) for row in self.rows], indent=1))
        _write(self.folder / PICTURE, as_svg(self.rows))
        page = [*as_markdown(self.rows), "", f"![Quality against memory and latency]({PICTURE})"]
        _write(self.folder / TABLE_PAGE, "\n".join(page) + "\n")

    def with_own_folder(self) -> Config:
        """Write the language model of a checkpoint that holds one as a folder, which can lose layers and tokens."""
        if not holds_language_model(read_checkpoint(Path(self.config.model.checkpoint_path))["model"]):
            return self.config
        return self._configured(self._as_folder(self.config, TRAINED), TRAINED_CONFIG)

    def with_used_tokens(self, settings: CompressSettings) -> Config:
        """Write the language model without the tokens that the task does not use, unless it is there.

        Returns:
            Config: of its training; it also teaches a model that loses layers, which needs the same tokens.
        """
        parts: dict[str, Any] = self.config.public()["model"]
        folder = self.folder / SMALL_VOCABULARY
        if not folder.is_dir():
            before = load_tokenizer(parts["llama_path"], self.config.token)
            train_set = open_set(self.config, self.config.datasets.train_ann_path, train_prompts(self.config))
            texts = task_texts(self.config, train_set, settings.vocabulary_texts)
            vocabulary = used_vocabulary(before, texts)
            logger.info("%d of %d tokens are used in %d texts", len(vocabulary.kept), len(before), len(texts))
            write_small_vocabulary(
                parts["llama_path"],
                vocabulary,
                folder,
                check=lambda written: check_pieces(before, load_tokenizer(str(written), None), texts),
            )
        parts["llama_path"] = str(folder.absolute())
        return self._configured(parts, VOCABULARY)

    def weighed(self, settings: CompressSettings) -> list[Round]:
        """Choose the layers to drop."""
        path = self.folder / LAYERS
        if path.is_file():
            return [_round(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        rounds: list[Round] = []
        asked: tuple[tuple[Part, int], ...] = (
            ("llm", settings.drop_llm_layers),
            ("whisper", settings.drop_whisper_layers),
        )
        wanted = [(part, drop) for part, drop in asked if drop]
        # Nothing is loaded or encoded for parts that keep their layers.
        if wanted:
            model, engine = _load(self.config)
        for part, drop in wanted:
            holder = holder_of(model, part)
            # Encodings are the same whatever the language model is; Whisper's have to be made anew.
            split = _split(self.config, model, cache=part == "llm", clips=settings.ablation_clips)
            loss = _loss_of(model, split, engine, batch_size=self.config.run.batch_size_eval)
            rounds += choose_layers(part, holder, loss, drop=drop, progress=logger.info)
        _write(path, json.dumps([asdict(each) for each in rounds], indent=1))
        return rounds

    def dropped(self, settings: CompressSettings, rounds: Sequence[Round]) -> Config:
        """Write the smaller model, unless it is there; returns its training configuration."""
        parts: dict[str, Any] = self.config.public()["model"]
        for part, name, write in (
            ("llm", "llama_path", write_pruned_llm),
            ("whisper", "whisper_path", write_pruned_whisper),
        ):
            own = [each for each in rounds if each.part == part]
            if own:
                kept = kept_layers(len(own[0].without), own)
                if not (self.folder / part).is_dir():
                    write(parts[name], kept, self.folder / part)
                if part == "llm":
                    if not (self.folder / CHECKPOINT).is_file():
                        write_pruned_checkpoint(Path(parts["ckpt"]), kept, self.folder / CHECKPOINT)
                    parts["ckpt"] = str((self.folder / CHECKPOINT).absolute())
                parts[name] = str((self.folder / part).absolute())
        if settings.context_seconds is not None:
            parts["context_seconds"] = settings.context_seconds
        return self._configured(parts, TRAIN, output_dir=str((self.folder / "healing").absolute()))

    def healed(self, settings: CompressSettings, smaller: Config) -> Config:
        """Train the smaller model, from where an earlier run ended; returns the configuration with its checkpoint."""
        run: dict[str, Any] = {"output_dir": str((self.folder / "healing").absolute())}
        if settings.distill_weight:
            self._configured(self.config.public()["model"], TEACHER)
            run |= {
                "distill": str((self.folder / TEACHER).absolute()),
                "distill_weight": settings.distill_weight,
                "distill_temperature": settings.distill_temperature,
            }
        if settings.heal == FULL:
            return self._healed_itself(smaller, run)
        parts = smaller.public()["model"]
        file = self.folder / HEALED
        if not file.is_file():
            best = read_checkpoint(_trained(self._configured(parts, TRAIN, **run)))
            save_checkpoint(file, best["model"], **{key: best[key] for key in ("config", "tasks") if key in best})
        return self._configured(parts | {"ckpt": str(file.absolute())}, TRAIN, **run)

    def _healed_itself(self, smaller: Config, run: dict[str, Any]) -> Config:
        """Train all of the language model, an adapter merged, and write it as a folder."""
        parts = self._as_folder(smaller, MERGED) if smaller.model.lora else smaller.public()["model"]
        trained = parts | {"freeze_llm": False}
        if not (self.folder / HEALED_LLM).is_dir():
            trained["ckpt"] = str(_trained(self._configured(trained, TRAIN, **run)))
        return self._configured(self._as_folder(self._configured(trained, TRAIN, **run), HEALED_LLM), TRAIN, **run)

    def _as_folder(self, config: Config, name: str) -> dict[str, Any]:
        """Write the language model with what was trained of it as a folder, unless it is there; its section model."""
        folder = self.folder / name
        if not folder.is_dir():
            # Rounded where it is loaded, and no sooner.
            export_model(config, form="merged", output=folder, dtype="float32")
        parts = {key: value for key, value in config.public()["model"].items() if not key.startswith("lora_")}
        own = {"llama_path": str(folder.absolute()), "ckpt": str((folder / BRIDGE_FILE).absolute()), "lora": False}
        return parts | own | {"freeze_llm": True}

    def _configured(self, parts: dict[str, Any], name: str, **run: Any) -> Config:
        """Write a configuration of the folder, and read it as a training reads it."""
        tree = self.config.public()
        tree |= {"model": parts, "run": tree["run"] | run}
        _write(self.folder / name, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        return load_config(self.folder / name, purpose="train")


def _trained(config: Config) -> Path:
    """Train, from where an earlier run ended; the best checkpoint."""
    result, folder = train(config, resume="auto")
    if result.stopped_by is not None:
        raise SalmonnError("healing was stopped and saved: the same command goes on with it")
    return folder / BEST


def _round(entry: dict[str, Any]) -> Round:
    return Round(**{**entry, "without": {int(layer): loss for layer, loss in entry["without"].items()}})


def _load(config: Config) -> tuple[SALMONN, Engine]:
    device = choose_device(config.run.device)
    engine = Engine.start(device, precision=choose_precision(config, device))
    return SALMONN.from_config(config, device=engine.device, dtype=choose_dtype(config.model.dtype, device)), engine


def _validation(config: Config, model: SALMONN) -> Validation:
    split = _split(config, model, cache=True)
    scorer = build_scorer(config, model, split, UnreadableClips(config.run.max_unreadable))
    return Validation(split, scorer, config.run.batch_size_eval, config.run.best_metric)


def _split(config: Config, model: SALMONN, *, cache: bool, clips: int | None = None) -> Split:
    """The validation set, or clips spread evenly over it."""
    book = train_prompts(config)
    samples = open_set(config, config.datasets.valid_ann_path, book)
    if clips is not None:
        samples = samples[:: max(len(samples) // clips, 1)]
    live = config.model_copy(update={"run": config.run.model_copy(update={"cache_features": cache})})
    return build_split(live, samples, book, model, UnreadableClips(config.run.max_unreadable))


def _loss_of(model: SALMONN, split: Split, engine: Engine, *, batch_size: int) -> Callable[[], float]:
    silence = model.encode([split.samples.load_audio(0, model.sampling_rate)])
    return lambda: teacher_forced(model, split, engine, batch_size=batch_size, silence=silence)["loss"]


def _write(path: Path, text: str) -> None:
    data = text.encode()
    with whole_file(path, size=len(data)) as unfinished:
        unfinished.write_bytes(data)
