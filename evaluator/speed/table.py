"""Figures of finished runs side by side: efficiency.json and run.json files in, lines of text out.

Nothing is measured here. What the files do not have stays empty, and conditions that differ are told, because figures
measured under different conditions are no comparison.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.errors import ResultError
from evaluator.run.record import RunRecord
from evaluator.run.timing import present_name

# Name in the file -> what a person reads; docs/efficiency.md defines each.
TITLES = {
    "challenge_memory_bytes": "challenge: memory (bytes)",
    "challenge_latency_seconds": "challenge: latency, TTFT + TPOT (s)",
    "challenge_ttft_seconds": "challenge: TTFT (s)",
    "challenge_tpot_seconds": "challenge: TPOT (s)",
    "waited_latency_seconds": "waited for: latency, TTFT + TPOT (s)",
    "waited_ttft_seconds": "waited for: TTFT, features inside (s)",
    "waited_tpot_seconds": "waited for: TPOT (s)",
    "batch1_first_step_seconds_p50": "batch 1: first step p50 (s)",
    "batch1_first_step_seconds_p95": "batch 1: first step p95 (s)",
    "batch1_first_token_seconds_p50": "batch 1: time to first token p50 (s)",
    "batch1_first_token_seconds_p95": "batch 1: time to first token p95 (s)",
    "batch1_further_token_seconds_p50": "batch 1: time per further token p50 (s)",
    "batch1_further_token_seconds_p95": "batch 1: time per further token p95 (s)",
    "batch1_further_token_seconds_mean": "batch 1: time per further token, mean (s)",
    "batch1_final_text_seconds_p50": "batch 1: time to final text p50 (s)",
    "batch1_final_text_seconds_p95": "batch 1: time to final text p95 (s)",
    "batch1_rtfx": "batch 1: RTFx (audio s per inference s)",
    "batch1_rtf": "batch 1: RTF (inference s per audio s)",
    "batch1_tokens_per_second": "batch 1: tokens per s",
    "full_seconds": "all at once: seconds",
    "full_rtfx": "all at once: RTFx",
    "full_rtf": "all at once: RTF",
    "full_clips_per_second": "all at once: clips per s",
    "full_tokens_per_second": "all at once: tokens per s",
    "rtfx": "evaluation: RTFx",
    "rtf": "evaluation: RTF",
    "clips_per_second": "evaluation: clips per s",
    "tokens": "evaluation: tokens",
    "tokens_per_second": "evaluation: tokens per s",
    "pull_to_answer_seconds_p50": "evaluation: pull to answer p50 (s)",
    "pull_to_answer_seconds_p95": "evaluation: pull to answer p95 (s)",
    "process_since_start": "peak memory: process (bytes)",
    "device_batch1": "peak memory: device, batch 1 (bytes)",
    "device_full": "peak memory: device, all at once (bytes)",
    "device_since_start": "peak memory: device, since start (bytes)",
    "parameters_total": "parameters",
    "parameters_trained": "parameters, of a checkpoint",
    "macs_encoders": "MACs: encoders, a clip",
    "macs_bridge": "MACs: bridge, a clip",
    "macs_prompt": "MACs: prompt, once",
    "macs_token": "MACs: a further token of a beam",
    "prompt_tokens": "tokens of that prompt",
}
_NAMES = ("efficiency.json", "run.json")


@dataclass(frozen=True, slots=True)
class Column:
    """One finished run.

    Attributes:
        name: its folder.
        figures: title -> the figure as text, with its range where it has one.
        conditions: name -> what the figures hold for.
        missing: figure -> why it is not there.
        notes: sentences.
        components: rows of text: a component's name, seconds, bytes of weights, bytes of activations.
    """

    name: str
    figures: Mapping[str, str]
    conditions: Mapping[str, str]
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    components: tuple[tuple[str, ...], ...] = ()


def read_column(path: Path) -> Column:
    """Read a finished run.

    Args:
        path: an efficiency.json, a run.json, or a folder that holds one of them.

    Raises:
        ResultError: it cannot be read, or is neither of the two.
    """
    file = next((path / name for name in _NAMES if (path / name).is_file()), path) if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} cannot be read: {error}") from error
    try:
        if isinstance(data, dict) and isinstance(data.get("figures"), dict):
            return _from_efficiency(file, data)
        run = RunRecord.of(data) if isinstance(data, dict) else RunRecord()
        if run.speed is not None:
            return _from_run(file, run)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{file} holds figures that cannot be read: {type(error).__name__}: {error}.") from error
    raise ResultError(f"{file} holds no figures: expected an efficiency.json, or the run.json of a finished run.")


def table(columns: Sequence[Column]) -> list[str]:
    """Lay runs side by side.

    Args:
        columns: at least one.

    Returns:
        list[str]: lines: a heading, a row for each figure that any run has, conditions that differ, what is missing,
        notes.
    """
    titles = [title for title in dict.fromkeys(TITLES.values()) if any(title in c.figures for c in columns)]
    extra = [title for column in columns for title in column.figures if title not in TITLES.values()]
    rows = [["", *(column.name for column in columns)]]
    rows += [
        [title, *(column.figures.get(title, "-") for column in columns)] for title in (*titles, *dict.fromkeys(extra))
    ]
    lines = _aligned(rows)
    names = dict.fromkeys(name for column in columns for name in column.conditions)
    stated = [[name, *(column.conditions.get(name, "-") for column in columns)] for name in names]
    several = len(columns) > 1
    shown = [row for row in stated if len(set(row[1:])) > 1] if several else stated
    if shown:
        lines += ["", "conditions that differ:" if several else "conditions:", *_aligned(shown)]
    for column in columns:
        label = f"{column.name}: " if several else ""
        if column.components:
            lines += ["", f"{label}components:", *_aligned([_COMPONENT_HEADING, *column.components])]
        lines += [f"{label}no {figure}: {reason}" for figure, reason in column.missing.items()]
        lines += [f"{label}{note}" for note in column.notes]
    return lines


def _from_efficiency(file: Path, data: Mapping[str, Any]) -> Column:
    figures = {_title(name): _ranged(value) for name, value in data["figures"].items()}
    for section in ("peak_memory_bytes", "model_figures"):
        figures |= _numbers(data.get(section))
    conditions = {
        **_weights(data.get("config")),
        **_texts(data.get("settings")),
        **_clips(data.get("clips")),
        **_texts(data.get("machine"), _MACHINE),
    }
    conditions |= _texts(data.get("versions"), ("torch", "transformers"))
    conditions |= _texts(data.get("protocol"), ("name", "rounds", "processes"))
    notes = tuple(str(note) for note in data.get("notes", []))
    components = tuple(_component(name, cost) for name, cost in _section(data.get("components")).items())
    return Column(_name(file), figures, conditions, _texts(data.get("missing")), notes, components)


def _from_run(file: Path, run: RunRecord) -> Column:
    latency, config = run.latency or {}, run.config or {}
    figures = {_title(name): _ranged(value) for name, value in _section(latency.get("figures")).items()}
    for section in (run.speed, run.peak_memory_bytes, latency.get("model_figures")):
        figures |= _numbers(section)
    conditions = {
        "mode": str(run.mode),
        "status": run.status,
        **_weights(config),
        **_texts(config.get("generate"), ("num_beams", "max_new_tokens", "do_sample")),
        **_texts(config.get("run"), ("device",)),
        "batch_size": str(_section(config.get("run")).get("batch_size_eval")),
        **_texts(latency.get("settings")),
        **_texts(run.machine, _MACHINE),
        **_texts(run.versions, ("torch", "transformers")),
        **_texts(latency.get("protocol"), ("rounds",)),
    }
    missing = dict(_texts(latency.get("missing")))
    if latency.get("reason") is not None:
        missing["latency"] = str(latency["reason"])
    notes = list(latency.get("notes", []))
    if latency.get("clips"):
        conditions |= _clips({"mode": run.mode, "annotation": run.annotation, **_section(latency["clips"])})
        notes.append('Batch 1 was measured on these clips, after one to warm up; "evaluation" is of the whole run.')
    return Column(_name(file), figures, conditions, missing, tuple(str(note) for note in notes))


def _weights(config: object) -> dict[str, str]:
    """What tells two models apart whose figures are alike."""
    return _texts(_section(config).get("model"), ("ckpt", "llama_path"))


_MACHINE = ("processor", "cores", "OMP_NUM_THREADS")


def _clips(value: object) -> dict[str, str]:
    """The clips in one line: their source, number and seconds."""
    clips = _section(value)
    seconds = [float(length) for length in clips.get("seconds", [])]
    annotation = _section(clips.get("annotation"))
    source = f"{clips.get('mode')} of {annotation.get('path')}" if annotation else f"noise, {clips.get('task')}"
    return {"clips": f"{len(seconds)}, {sum(seconds):.1f} s, {source}"}


def _name(file: Path) -> str:
    return file.absolute().parent.name


def _title(name: str) -> str:
    return TITLES.get(present_name(name), name)


def _section(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: object, names: Sequence[str] | None = None) -> dict[str, str]:
    section = _section(value)
    return {str(name): str(section[name]) for name in (section if names is None else names) if name in section}


def _numbers(value: object) -> dict[str, str]:
    return {_title(name): _number(found) for name, found in _section(value).items() if found is not None}


_COMPONENT_HEADING = ("", "seconds", "weights (bytes)", "activations (bytes)")


def _component(name: str, cost: Mapping[str, Any]) -> tuple[str, ...]:
    bytes_of = (cost["weights_bytes"], cost["activations_bytes"])
    return (name, _ranged(cost["seconds"]), *("-" if value is None else _number(value) for value in bytes_of))


def _ranged(spread: Mapping[str, Any]) -> str:
    """0.0412 (0.0409-0.043); a figure of one round has no range."""
    median, lowest, highest = (_number(_section(spread)[key]) for key in ("median", "lowest", "highest"))
    return median if lowest == highest else f"{median} ({lowest}-{highest})"


def _number(value: object) -> str:
    """4 significant digits for measured numbers, all of them for counted ones: 0.04123, 3,161,368."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
