"""What a model costs and how good it is, in one row, before and after each step of making it smaller."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from salmonn.compress.interval import interval
from salmonn.compress.layers import holder_of
from salmonn.data.dataset import Sample
from salmonn.inference.stages import ClipStages, peak_activations
from salmonn.model.salmonn import SALMONN
from salmonn.prompts import PromptBook
from salmonn.quantization.layers import count_numbers, packed_tensors, tensor_bytes
from salmonn.training.processes import Engine
from salmonn.training.validation import SPOKEN, Validation, plain_words, score_texts, teacher_forced

WARM_UPS, REPEATS = 3, 20


@dataclass(frozen=True, slots=True)
class Row:
    """One model.

    Attributes:
        step: what was done to it.
        llm_layers: of the language model.
        whisper_layers: of Whisper's encoder.
        context_seconds: of a clip that are heard.
        parameters: all numbers.
        weight_bytes: what they take in memory, in the dtype they were loaded in.
        memory_bytes: weights, and the most that tensors take beside them while one clip is answered greedily.
        ttft_seconds: from a waveform to the logits of the first token, one clip alone, the device waited for.
        tpot_seconds: of one further token, by transformers.
        loss: of the validation set, a target token.
        accuracy: of its target tokens.
        wer: of answers to some of it; None without speech.
        chrf: of its other answers; None without any.
        vocabulary: tokens of the language model.
        wer_interval, chrf_interval: the middle 95 % when the answered clips are drawn anew.
    """

    step: str
    llm_layers: int
    whisper_layers: int
    context_seconds: float
    parameters: int
    weight_bytes: int
    memory_bytes: int
    ttft_seconds: float
    tpot_seconds: float
    loss: float
    accuracy: float
    wer: float | None
    chrf: float | None
    vocabulary: int | None = None
    wer_interval: tuple[float, float] | None = None
    chrf_interval: tuple[float, float] | None = None


def measure(model: SALMONN, step: str, validation: Validation, engine: Engine) -> Row:
    """Measure a model in evaluation mode.

    Args:
        model: the model.
        step: what was done to it.
        validation: the validation set and how it is answered.
        engine: of one process.
    """
    device = engine.device
    split = validation.split
    silence = model.encode([torch.zeros(model.sampling_rate).numpy()])
    figures = teacher_forced(model, split, engine, batch_size=validation.batch_size, silence=silence)
    pairs = [] if validation.scorer is None else validation.scorer.answered(model, engine)
    scores, intervals = score_texts(pairs), _intervals(pairs)
    clip = split.samples.load_audio(0, model.sampling_rate)
    stages = ClipStages(model, clip, _prompt(split.book, split.samples[0].task)).stages()
    seconds = [
        _seconds([stage.run for stage in stages[:-1]], stages[-1].run, device) for _ in range(WARM_UPS + REPEATS)
    ]
    first, step_seconds = (statistics.median(times) for times in zip(*seconds[WARM_UPS:], strict=True))
    weights = tensor_bytes(packed_tensors(model))
    return Row(
        step=step,
        llm_layers=len(holder_of(model, "llm").layers),
        whisper_layers=len(holder_of(model, "whisper").layers),
        context_seconds=model.speech_encoder.front_end.max_samples / model.sampling_rate,
        parameters=count_numbers(model.parameters()),
        weight_bytes=weights,
        memory_bytes=weights + max(peak_activations(stage.run, device) for stage in stages),
        ttft_seconds=first,
        tpot_seconds=step_seconds,
        loss=figures["loss"],
        accuracy=figures["accuracy"],
        wer=scores.get("wer"),
        chrf=scores.get("chrf"),
        vocabulary=model.llm.config.get_text_config().vocab_size,
        wer_interval=intervals.get("wer"),
        chrf_interval=intervals.get("chrf"),
    )


def _intervals(pairs: Sequence[tuple[Sample, str]]) -> dict[str, tuple[float, float]]:
    """The interval of every score that answers have."""
    spoken = [pair for pair in pairs if pair[0].task in SPOKEN and plain_words(pair[0].text)]
    other = [pair for pair in pairs if pair[0].task not in SPOKEN]
    return {
        name: interval(lambda drawn: score_texts(drawn)[name], clips)  # noqa: B023 - called at once
        for name, clips in (("wer", spoken), ("chrf", other))
        if clips
    }


def _prompt(book: PromptBook, task: str) -> str:
    return book.prompt(task, "What do you hear?" if book.tasks()[task] else "")


def _seconds(
    first: Sequence[Callable[[], None]], step: Callable[[], None], device: torch.device
) -> tuple[float, float]:
    """Seconds to the first token's logits, and of one further step."""
    _wait(device)
    begin = time.perf_counter()
    for run in first:
        run()
    _wait(device)
    middle = time.perf_counter()
    step()
    _wait(device)
    return middle - begin, time.perf_counter() - middle


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def as_markdown(rows: Sequence[Row]) -> list[str]:
    """Lay rows out as a Markdown table."""
    titles = ["model", "LLM layers", "Whisper layers", "hears", "parameters", "weights", "memory", "TTFT", "TPOT"]
    titles += ["tokens", "loss", "WER (95 %)", "chrF (95 %)"]
    lines = [f"| {' | '.join(titles)} |", "| " + " | ".join("---" for _ in titles) + " |"]
    for row in rows:
        cells = (
            row.step,
            str(row.llm_layers),
            str(row.whisper_layers),
            f"{row.context_seconds:g} s",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.weight_bytes / 1e6:.1f} MB",
            f"{row.memory_bytes / 1e6:.1f} MB",
            f"{1000 * row.ttft_seconds:.1f} ms",
            f"{1000 * row.tpot_seconds:.2f} ms",
            "-" if row.vocabulary is None else f"{row.vocabulary:,}",
            f"{row.loss:.3f}",
            _cell(row.wer, row.wer_interval, lambda wer: f"{100 * wer:.2f}", " %"),
            _cell(row.chrf, row.chrf_interval, lambda chrf: f"{chrf:.1f}", ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(value: float | None, ends: tuple[float, float] | None, written: Callable[[float], str], unit: str) -> str:
    if value is None:
        return "-"
    return written(value) + unit + (f" ({written(ends[0])}-{written(ends[1])})" if ends else "")
