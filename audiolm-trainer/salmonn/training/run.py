"""A whole training run from a configuration: processes, model, sets, folder, trackers, and where an earlier one ended.

This is the one file of the wing that reads the configuration; the others take what they need of it.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from salmonn.config.config import flatten, load_config
from salmonn.config.notices import find_notices
from salmonn.config.schema import Config, ModelConfig, RunConfig
from salmonn.data.batch_order import BatchOrder, build_batch_order
from salmonn.data.dataset import Samples, open_samples
from salmonn.data.unreadable import UnreadableClips
from salmonn.device import choose_device, choose_dtype
from salmonn.errors import CheckpointError, ConfigError
from salmonn.inference.inference import SalmonnLM
from salmonn.model.distillation import load_teacher
from salmonn.model.salmonn import SALMONN, Distillation
from salmonn.prompts import PromptBook, test_prompts, train_prompts
from salmonn.quantization.layers import plain_parts
from salmonn.training.data_split import Split
from salmonn.training.encoded import build_source
from salmonn.training.micro_batches import MicroBatches
from salmonn.training.processes import Engine
from salmonn.training.random_state import seed_everything
from salmonn.training.run_folder import FILES, RESUMABLE, RunFolder, newest_checkpoint, remove_unfinished_checkpoints
from salmonn.training.stop_request import StopRequest
from salmonn.training.tracking import Tracking, start_trackers
from salmonn.training.trainer import Trainer, TrainerSettings, TrainingResult
from salmonn.training.validation import AnswerScorer, Validation
from salmonn.weights.checkpoint import read_weights
from salmonn.weights.fingerprint import TRAINING_KEYS, changed, fingerprints

logger = logging.getLogger(__name__)

AUTO = "auto"
FREE_TO_CHANGE = (
    *("device", "parallel", "use_distributed", "dist_url", "num_workers", "cache_features", "batch_size_eval"),
    *("output_dir", "exp_name", "log_freq", "trackers", "keep_last", "save_every", "max_unreadable"),
    *("decode_slots", "on_audio_error", "empty_text", "latency_clips", "clip_timeout_s", "max_failures"),
)
"""Keys of `run` that a resumed run may have otherwise: they do not change what is learned."""


def train(config: Config, *, resume: str = "") -> tuple[TrainingResult, Path]:
    """Train, or go on training.

    Args:
        config: checked for training.
        resume: "" for a new run; "auto" for the newest checkpoint under `run.output_dir`, or a new run where there is
            none; else a checkpoint or a run folder.

    Returns:
        How it ended, and the run folder.

    Raises:
        SalmonnError: anything that the configuration names is wrong, or the run to resume is another one.
    """
    for key, text in find_notices(config, "train"):
        logger.warning("%s %s", key, text)
    device = choose_device(config.run.device)
    engine = Engine.start(device, precision=choose_precision(config, device), parallel=config.run.parallel)
    # The first process looks: the others might already see what it writes.
    checkpoint = engine.agree(find_checkpoint(resume, Path(config.run.output_dir)) if engine.is_main else None)
    data = read_resumable(checkpoint, config) if checkpoint else None
    if engine.is_main:
        remove_unfinished_checkpoints(Path(config.run.output_dir), checkpoint.parent if checkpoint else None)
    sets = open_sets(config, engine)
    model = build_model(config, engine, checkpoint)
    folder = open_folder(config, engine, checkpoint)
    step = int(data["step"]) if data else 0
    names = config.run.trackers if engine.is_main else []
    run_name = config.run.exp_name or folder.path.name
    trackers = start_trackers(names, folder, run_name=run_name, step=step)
    tracking = Tracking(folder, trackers, quiet=not engine.is_main)
    trainer = build_trainer(config, model, sets, engine=engine, folder=folder, tracking=tracking)
    if data is not None:
        trainer.restore(data)
        logger.info("resumed from %s, %d steps done", checkpoint, step)
    request = StopRequest()
    try:
        with request.listening():
            result = trainer.run(request)
    finally:
        tracking.finish()
    engine.close()
    return result, folder.path


def choose_precision(config: Config, device: torch.device) -> torch.dtype:
    """What the model computes in: `run.precision`, where "auto" means as the device can; float32 without `run.amp`."""
    if not config.run.amp:
        return torch.float32
    return choose_dtype(config.run.precision, device)


def find_checkpoint(resume: str, output_dir: Path) -> Path | None:
    """Find the checkpoint that `--resume` means, None for a new run.

    Raises:
        CheckpointError: a path that is neither a checkpoint nor a folder with one.
    """
    if not resume:
        return None
    if resume == AUTO:
        found = newest_checkpoint(output_dir) if output_dir.is_dir() else None
        if found is None:
            logger.info("nothing to resume under %s: a new run", output_dir)
        return found
    path = Path(resume)
    if path.is_file():
        return path
    found = newest_checkpoint(path) if path.is_dir() else None
    if found is None:
        raise CheckpointError(f"--resume {resume}: no checkpoint that can be resumed was found there")
    return found


def read_resumable(path: Path, config: Config) -> dict[str, Any]:
    """Read a checkpoint and make sure that this configuration goes on with the same training.

    Raises:
        CheckpointError: the file holds weights only.
        ConfigError: what decides the result differs; every such key is listed.
    """
    data = read_weights(path)
    if RESUMABLE not in data:
        raise CheckpointError(f"{path} holds weights but no state to resume: use it as model.ckpt of a new run")
    if FILES not in data:
        logger.info("%s does not say what was in the files of its run: whether they changed is not known", path)
    before, now = _deciding(data["config"]), _deciding(config.shareable())
    problems = [
        (key, f"was {before.get(key)!r} in the run to resume, is {now.get(key)!r}; put it back, or start a new run")
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    problems += [
        (key, "holds something else than when the run to resume was trained; put it back, or start a new run")
        for key in changed(data.get(FILES, {}), fingerprints(config, TRAINING_KEYS))
    ]
    if problems:
        raise ConfigError(f"{path} cannot be resumed with this configuration", problems)
    return data


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide what is learned: {"run.seed": 42, ...}."""
    # A run of before a key was there was one with its default.
    defaults = Config(model=ModelConfig(llama_path="", whisper_path="")).shareable()
    settings = flatten(defaults) | flatten(config)
    flat = {k: v for k, v in settings.items() if k.startswith(("model.", "run.", "datasets.task_weights"))}
    # The starting point of the first step is no longer needed, and the parts may lie elsewhere by now.
    free = [f"run.{key}" for key in FREE_TO_CHANGE] + ["model.ckpt", "model.test_prompt_path"]
    return {key: value for key, value in flat.items() if key not in free}


def build_model(config: Config, engine: Engine, checkpoint: Path | None) -> SALMONN:
    """Load the model, its trained part from the checkpoint to resume where there is one."""
    # Every process starts from the same untrained bridge and adapter.
    seed_everything(config.run.seed)
    dtype = choose_dtype(config.model.dtype, engine.device)
    started = config if checkpoint is None else _without_start(config)
    model = SALMONN.from_config(started, device=engine.device, dtype=dtype, train=True)
    if checkpoint is not None:
        model.load_trained(checkpoint)
    if config.run.distill:
        run, taught = config.run, load_config(Path(config.run.distill), purpose="answer")
        teacher = load_teacher(taught, model, device=engine.device, dtype=dtype)
        model.distillation = Distillation(teacher, run.distill_weight, run.distill_temperature)
    return model


def _without_start(config: Config) -> Config:
    changes = {"ckpt": "", "speech_llama_proj_model": ""}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def open_folder(config: Config, engine: Engine, checkpoint: Path | None) -> RunFolder:
    """Make a run folder, or take the one of the checkpoint to resume."""
    if checkpoint is not None:
        return RunFolder(checkpoint.parent)
    path = RunFolder.create(Path(config.run.output_dir), datetime.now()).path if engine.is_main else Path()
    return RunFolder(engine.agree(path))


@dataclass(frozen=True, slots=True)
class Sets:
    """The data of a run: the training set with the order of its batches, the validation set if there is one."""

    train: Samples
    order: BatchOrder
    valid: Samples | None
    book: PromptBook


def open_sets(config: Config, engine: Engine) -> Sets:
    """Open the sets that a configuration names; what is wrong with them is found out before the model is loaded.

    Raises:
        PromptError: the prompt file is wrong.
        DatasetError: an annotation is wrong, or too small.
    """
    run, book = config.run, train_prompts(config)
    with engine.main_first():
        train = open_set(config, config.datasets.train_ann_path, book)
        path = config.datasets.valid_ann_path
        valid = open_set(config, path, book) if path else None
    order = build_batch_order(
        train,
        batch_size=run.batch_size_train * run.world_size,
        seed=run.seed,
        drop_last=run.drop_last,
        bucket_by_length=run.bucket_by_length,
        task_weights=config.datasets.task_weights,
    )
    return Sets(train, order, valid, book)


def build_trainer(
    config: Config, model: SALMONN, sets: Sets, *, engine: Engine, folder: RunFolder | None, tracking: Tracking
) -> Trainer:
    """Build the trainer of a configuration around a model and its sets.

    With `run.cache_features` every clip is encoded here.

    Raises:
        ConfigError: `run.best_metric` cannot be measured.
        AudioError: too many clips cannot be read.
    """
    run = config.run
    unreadable = UnreadableClips(run.max_unreadable)
    with engine.main_first():
        train = build_split(config, sets.train, sets.book, model, unreadable)
        valid = None if sets.valid is None else build_split(config, sets.valid, sets.book, model, unreadable)
    validation = None
    if valid is not None:
        scorer = build_scorer(config, model, valid, unreadable)
        validation = Validation(valid, scorer, run.batch_size_eval, run.best_metric)
    batches = MicroBatches(
        train, sets.order, engine, at_once=run.batch_size_train, seed=run.seed, multi_prompt=config.model.multi_prompt
    )
    return Trainer(
        model,
        engine=engine,
        batches=batches,
        validation=validation,
        settings=trainer_settings(run, sets.order),
        unreadable=unreadable,
        tracking=tracking,
        folder=folder,
        config=config.shareable(),
        files=fingerprints(config, TRAINING_KEYS),
    )


def trainer_settings(run: RunConfig, order: BatchOrder) -> TrainerSettings:
    """Take from the section `run` what the loop needs of it."""
    optims = run.optims
    return TrainerSettings(
        seed=run.seed,
        epochs=optims.max_epoch,
        epoch_steps=order.batches_per_pass if run.epoch_based else run.iters_per_epoch,
        accumulated=run.accum_grad_iters,
        max_grad_norm=run.max_grad_norm,
        init_lr=optims.init_lr,
        min_lr=optims.min_lr,
        warmup_steps=optims.warmup_steps,
        warmup_start_lr=optims.warmup_start_lr,
        weight_decay=optims.weight_decay,
        beta2=optims.beta2,
        log_every=run.log_freq,
        valid_every=run.valid_every,
        save_every=run.save_every,
        keep_last=run.keep_last,
    )


def open_set(config: Config, source: str, book: PromptBook) -> Samples:
    """Open an annotation file or shards, through the table kept of it."""
    return open_samples(source, prefix=config.datasets.prefix, tasks=book.tasks(), cache_dir=cache_dir(config))


def cache_dir(config: Config) -> Path:
    """Where tables and encoded clips are kept: `datasets.cache_dir`, else cache/ in the output folder."""
    return Path(config.datasets.cache_dir or Path(config.run.output_dir) / "cache")


def build_split(
    config: Config, samples: Samples, book: PromptBook, model: SALMONN, unreadable: UnreadableClips
) -> Split:
    """Join samples with the source of their encoded audio that `run.cache_features` chooses."""
    source = build_source(
        model,
        samples,
        cache=config.run.cache_features,
        cache_dir=cache_dir(config),
        workers=config.run.num_workers,
        batch_size=config.run.batch_size_eval,
        unreadable=unreadable,
        encoder_identity=encoder_identity(model) if config.run.cache_features == "disk" else "",
    )
    return Split(samples, book, source)


def encoder_identity(model: SALMONN) -> str:
    """Name the frozen encoders by what is in them: a digest of every weight's name, shape, dtype and sum."""
    digest = hashlib.sha256()
    for module in model.speech_encoder.frozen_modules():
        for name, tensor in module.state_dict().items():
            total = sum(float(part.double().sum()) for part in plain_parts(tensor))
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {total!r}\n".encode())
    front_end = model.speech_encoder.front_end
    digest.update(f"{front_end.extractor.to_json_string()} {front_end.patch_frames}".encode())
    return digest.hexdigest()


def build_scorer(config: Config, model: SALMONN, valid: Split, unreadable: UnreadableClips) -> AnswerScorer | None:
    """Build what answers `run.valid_generate` clips of the validation set, None for none.

    Raises:
        ConfigError: `run.best_metric` is a figure that these answers do not give.
    """
    count, metric = config.run.valid_generate, config.run.best_metric
    scorer = None
    if count:
        lm = SalmonnLM.from_config(model, config, prompts=validation_prompts(config, valid.book))
        scorer = AnswerScorer(lm, valid, count=count, unreadable=unreadable)
    measured = {"wer": scorer is not None and scorer.has_speech(), "chrf": scorer is not None and scorer.has_other()}
    if not measured.get(metric, True):
        what = "speech" if metric == "wer" else "captions or other texts"
        text = f"{metric} needs run.valid_generate above 0 and a validation set with {what}"
        raise ConfigError("the best checkpoint cannot be chosen", [("run.best_metric", text)])
    return scorer


def validation_prompts(config: Config, book: PromptBook) -> PromptBook:
    """The wordings that answers are asked for with: evaluation's, or for tasks it does not have those of training."""
    if not config.model.test_prompt_path:
        return book
    return PromptBook({**book.wordings, **test_prompts(config).wordings}, book.template)
