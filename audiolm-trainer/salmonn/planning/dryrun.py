"""A rehearsal of training without weights or network: the configured data for real, a tiny random model on it.

A page of text tells what the data hold, that a few steps and a validation run through on real clips, what the real run
amounts to and what is still missing or wrong. Nothing is saved. Where an annotation is not there yet, two made-up clips
stand in for it, and the page says so.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from salmonn.audio.loading import MAX_SECONDS, SAMPLING_RATE
from salmonn.config.config import find_problems
from salmonn.config.notices import find_notices
from salmonn.config.schema import Config
from salmonn.config.shards import is_shard_pattern, shard_paths
from salmonn.data.batch_order import plan_draws
from salmonn.data.dataset import Batch, Sample, Samples, collate, open_samples
from salmonn.device import choose_device
from salmonn.errors import AudioError, CheckpointError, DatasetError
from salmonn.model.salmonn import SALMONN
from salmonn.model.tiny import build_tiny_model
from salmonn.planning.data_report import DataReport, ReadingRate, describe_data, draw, measure_reading
from salmonn.planning.run_plan import (
    Longest,
    RunPlan,
    Sizes,
    measure_sizes,
    plan_lines,
    plan_run,
    reading_lines,
    size_lines,
)
from salmonn.preflight.parts import find_tokenizer
from salmonn.preflight.preflight import find_training_problems
from salmonn.prompts import AUDIO_SLOT, PromptBook, fill_template, train_prompts
from salmonn.training.optim import build_optimizer

STEPS = 3
MOST_CLIPS = 8
CHARACTERS_PER_TOKEN = 3
"""A careful guess of English text's, for where the tokenizer is not here."""


@dataclass(frozen=True, slots=True)
class RehearsalResult:
    """What the tiny model's steps gave: the loss of each, the validation's, and the clips of a step."""

    losses: tuple[float, ...]
    validation_loss: float
    clips: int


@dataclass(frozen=True, slots=True)
class DryrunReport:
    """What the rehearsal found.

    Attributes:
        rehearsal: of the tiny model.
        train, valid: what the sets hold; None where there is no annotation yet.
        plan: what the real run amounts to.
        sizes: parameters and memory of the real model, or why they are not known.
        rate: of reading the training set.
        missing: (dotted key, message) of what training still needs.
        config: of the real run.
        longest: what the memory was computed for.
    """

    rehearsal: RehearsalResult
    train: DataReport | None
    valid: DataReport | None
    plan: RunPlan
    sizes: Sizes | CheckpointError
    rate: ReadingRate
    missing: tuple[tuple[str, str], ...]
    config: Config
    longest: Longest

    def lines(self) -> list[str]:
        """Return the page for the screen."""
        limit = self.config.model.max_txt_len
        kept = "the annotation's table" if self.train is not None and self.config.datasets.cache_dir else "nothing"
        lines = [f"dry run: a tiny random model on the configured data; {kept} was saved", ""]
        for name, report in (("training", self.train), ("validation", self.valid)):
            lines += report.lines(name, max_txt_len=limit) if report is not None else []
        if self.train is None:
            lines.append(f"{'training':<12}made-up clips (no annotation yet)")
        losses = ", ".join(f"{loss:.4f}" for loss in self.rehearsal.losses)
        size = self.rehearsal.clips
        lines.append(f"{'rehearsal':<12}{len(self.rehearsal.losses)} steps of {size} clips, loss {losses}")
        lines.append(f"{'':<12}validation of one batch, loss {self.rehearsal.validation_loss:.4f}")
        notices = find_notices(self.config, "dryrun")
        if notices:
            lines += ["", "to know:", *(f"  {key} {text}" for key, text in notices)]
        lines += ["", "the real run", *plan_lines(self.config, self.plan)]
        lines += size_lines(self.sizes, self.config, self.longest)
        lines += reading_lines(self.config, self.plan, self.rate) if self.train is not None and self.plan.steps else []
        if self.missing:
            lines += ["", "training still needs:", *(f"  {key}: {text}" for key, text in self.missing)]
        return lines


def run_dryrun(config: Config) -> DryrunReport:
    """Look at the data, rehearse a few steps and compute what the real run needs.

    Raises:
        PromptError, DatasetError: what the configuration names is wrong.
        AudioError: no clip of a batch can be read.
        ConfigError: `run.device` is not here.
    """
    device = choose_device(config.run.device)
    book = train_prompts(config)
    tokenizer = _tokenizer(config)
    torch.manual_seed(config.run.seed)
    model = build_tiny_model(config).to(device)
    with _samples(config, book) as sets:
        train, valid = (_describe(samples, tokenizer, config) if sets.real and samples else None
                        for samples in (sets.train, sets.valid))  # fmt: skip
        rehearsal = rehearse_steps(config, model, sets.train, sets.train if sets.valid is None else sets.valid)
        drawn, undrawn = _drawn(sets.train, config) if sets.real else (None, "")
        rate = measure_reading(sets.train, workers=config.run.num_workers, seed=config.run.seed)
    longest = _longest(config, book, tokenizer, train)
    return DryrunReport(
        rehearsal=rehearsal,
        train=train,
        valid=valid,
        plan=plan_run(config, None if train is None else train.samples, drawn=drawn),
        sizes=measure_sizes(config, longest),
        rate=rate,
        missing=tuple(_missing(config, train, drawn, undrawn)),
        config=config,
        longest=longest,
    )


def rehearse_steps(config: Config, model: SALMONN, train_samples: Samples, valid_samples: Samples) -> RehearsalResult:
    """Make STEPS optimizer steps on seeded batches of real clips and measure the loss of one validation batch.

    Raises:
        AudioError: no clip of a batch can be read.
        PromptError: a sample has no prompt.
    """
    book, run = train_prompts(config), config.run
    optims = run.optims
    optimizer = build_optimizer(
        model.trainable_parameters(), init_lr=optims.init_lr, weight_decay=optims.weight_decay, beta2=optims.beta2
    )
    model.train(True)
    losses, most = [], min(run.batch_size_train, MOST_CLIPS)
    clips = 0
    for step in range(STEPS):
        indices, waves = _readable(train_samples, draw(len(train_samples), most, run.seed + step))
        rng = random.Random(f"{run.seed}:{step}")
        batch = collate(train_samples, indices, book, rng=rng, multi_prompt=config.model.multi_prompt)
        loss = _loss(model, batch, waves)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        clips = max(clips, len(indices))
    model.train(False)
    indices, waves = _readable(valid_samples, draw(len(valid_samples), min(run.batch_size_eval, MOST_CLIPS), run.seed))
    with torch.no_grad():
        batch = collate(valid_samples, indices, book, rng=None, multi_prompt=False)
        validation_loss = float(_loss(model, batch, waves))
    return RehearsalResult(tuple(losses), validation_loss, clips)


def _loss(model: SALMONN, batch: Batch, waves: list[NDArray[np.float32]]) -> torch.Tensor:
    output = model.loss(model.embed(model.encode(waves)), batch.prompts, batch.targets)
    return output.loss


def _readable(samples: Samples, indices: Sequence[int]) -> tuple[list[int], list[NDArray[np.float32]]]:
    """Read the clips of a batch and leave out what cannot be read, as training does.

    Raises:
        AudioError: nothing of it can be read.
    """
    kept, waves, errors = [], [], []
    for index in indices:
        try:
            waves.append(samples.load_audio(index, SAMPLING_RATE))
        except AudioError as error:
            errors.append(error)
        else:
            kept.append(index)
    if not kept:
        raise AudioError(f"no clip of a batch of {len(errors)} can be read: {errors[0]}")
    return kept, waves


def _describe(samples: Samples, tokenizer: PreTrainedTokenizerBase | None, config: Config) -> DataReport:
    return describe_data(samples, tokenizer=tokenizer, max_txt_len=config.model.max_txt_len, seed=config.run.seed)


def _tokenizer(config: Config) -> PreTrainedTokenizerBase | None:
    """The real tokenizer, where it is here and can be read; what is wrong with it is reported with the rest."""
    try:
        return find_tokenizer(config, offline=True)
    except CheckpointError:
        return None


def _longest(
    config: Config, book: PromptBook, tokenizer: PreTrainedTokenizerBase | None, train: DataReport | None
) -> Longest:
    """What the memory must hold: the longest prompt (its beginning included), target and clip."""
    limit = config.model.max_txt_len
    seconds = float(MAX_SECONDS) if train is None else train.longest_seconds
    wordings = [wording for entry in book.wordings.values() for wording in entry]
    texts = [fill_template(book.template, wording).replace(AUDIO_SLOT, "") for wording in wordings]
    if tokenizer is None:
        prompt = max(len(text) for text in texts) // CHARACTERS_PER_TOKEN + 1
        return Longest(prompt, limit, seconds)
    prompt = max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) + 1
    return Longest(prompt, limit if train is None else min(limit, train.lengths.longest), seconds)


def _drawn(samples: Samples, config: Config) -> tuple[int | None, str]:
    """How many rows a pass draws with the weights of tasks, and why that cannot be said."""
    try:
        return plan_draws(samples, config.datasets.task_weights).drawn, ""
    except DatasetError as error:
        return None, str(error)


def _missing(config: Config, train: DataReport | None, drawn: int | None, undrawn: str) -> Iterator[tuple[str, str]]:
    """Yield what training still needs: files first, then what does not fit together."""
    found = find_problems(config.public(), purpose="train")
    yield from found
    keys = {key for key, _ in found}
    parts = [(key, text) for key, text in find_training_problems(config, offline=True) if key not in keys]
    yield from parts
    keys |= {key for key, _ in parts}
    batch = config.run.batch_size_train * config.run.world_size
    if undrawn and not any(key.startswith("datasets.task_weights") for key in keys):
        key, _, text = undrawn.partition(": ")
        yield key, text
    samples = drawn if drawn is not None or train is None else train.samples
    if samples is not None and samples < batch and config.run.drop_last:
        yield "run.batch_size_train", f"{samples} training samples do not fill one step of {batch}"
    if train is not None and len(train.unreadable) > config.run.max_unreadable:
        yield (
            "run.max_unreadable",
            f"{len(train.unreadable)} clips cannot be read, {config.run.max_unreadable} are allowed: mend or remove",
        )


@dataclass(frozen=True, slots=True)
class _Sets:
    train: Samples
    valid: Samples | None
    real: bool


@contextmanager
def _samples(config: Config, book: PromptBook) -> Iterator[_Sets]:
    """Open the configured sets, or make clips up where there is no training annotation yet.

    Tables of annotations are kept where `datasets.cache_dir` says, and else nowhere: a rehearsal leaves no folder.
    """
    datasets = config.datasets
    with tempfile.TemporaryDirectory() as folder:
        if not _is_here(datasets.train_ann_path):
            yield _Sets(_made_up_clips(Path(folder), book), None, real=False)
            return
        cache = Path(datasets.cache_dir or folder)
        train, valid = (
            open_samples(source, prefix=datasets.prefix, tasks=book.tasks(), cache_dir=cache)
            if _is_here(source)
            else None
            for source in (datasets.train_ann_path, datasets.valid_ann_path)
        )
        assert train is not None
        yield _Sets(train, valid, real=True)


def _is_here(source: str) -> bool:
    """Whether an annotation, or every one of its shards, is a file."""
    files = shard_paths(source) if is_shard_pattern(source) else [Path(source)]
    return bool(source) and all(file.is_file() for file in files)


def _made_up_clips(folder: Path, book: PromptBook) -> Samples:
    task, needs_question = next(iter(book.tasks().items()))
    samples = []
    for number in range(2):
        path = folder / f"{number}.wav"
        noise = np.random.default_rng(number).standard_normal(2 * SAMPLING_RATE)
        soundfile.write(path, (0.1 * noise).astype(np.float32), SAMPLING_RATE)
        samples.append(Sample(path, "noise", task, "What is it?" if needs_question else ""))
    return Samples.of(samples)
