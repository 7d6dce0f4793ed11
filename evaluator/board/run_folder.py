"""Read a run folder or an efficiency file: scores, the clips behind them, peak memory and latency of one system."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.board.measurement import Clips, Measurement, Value
from evaluator.errors import ResultError
from evaluator.scoring.result import KINDS

EFFICIENCY, RUN, SCORES, PREDICTIONS = "efficiency.json", "run.json", "scores.json", "predictions.jsonl"
GIB = 2**30
# From the one that is nearest to the challenge's: what tensors of the device held, one clip at a time.
_MEMORY = ("device_batch1", "device_since_start", "device_full", "process_since_start")
_FIRST, _FURTHER = "batch1_first_step_seconds_p50", "batch1_further_token_seconds_p50"
# Metrics whose value is the mean of the clips'; BLEU's is not.
_MEANS = ("spider", "cider_d", "spice")
_LATENCY = "first step + further token, medians of clips alone"
# An efficiency file holds before a run; the challenge measures with the prompt of speech recognition.
_ORDERS = {"asr": 1, "aac": 2}
_CONDITIONS = ("device", "llm_dtype", "num_beams", "engine", "threads")


@dataclass(frozen=True, slots=True)
class _Costs:
    """What a file says of memory and time: its figures, its peaks in bytes, and the order of these values."""

    origin: Path
    figures: Mapping[str, Any]
    memory: Mapping[str, Any]
    device: str
    order: int


def read_run(folder: Path, system: str) -> Measurement:
    """Read the folder of a finished run of a valid mode.

    Raises:
        ResultError: the run is not finished, has no scores, or a file cannot be read.
    """
    run = _read_object(folder / RUN)
    status = run.get("status")
    if status is None:
        raise ResultError(f"{folder / RUN} is not that of a run: it has no status.")
    if status != "finished":
        reason = f" ({run['reason']})" if run.get("reason") else ""
        raise ResultError(
            f'{folder / RUN}: status is "{status}"{reason}, not "finished": go on with it (--resume {folder}), or '
            "leave it out."
        )
    if str(run.get("mode", "")).startswith("submission"):
        raise ResultError(f"{folder / RUN}: mode {run['mode']} has no scores: give the run of a valid mode.")
    if run.get("scoring_error"):
        raise ResultError(f"{folder / RUN}: scoring failed ({run['scoring_error']}): score the run again (--resume).")
    values, absent, conditions = _scores(folder)
    latency = _object(run.get("latency"))
    figures, memory = _object(latency.get("figures")), _object(run.get("peak_memory_bytes"))
    device = str(_object(latency.get("settings")).get("device"))
    _add_costs(values, absent, _Costs(folder / RUN, figures, memory, device, _task_order(run)))
    if latency.get("reason"):
        absent["latency_s"] = str(latency["reason"])
    return Measurement(system, str(folder), values, absent, conditions | _conditions(latency, run))


def read_efficiency(file: Path, system: str) -> Measurement:
    """Read an efficiency.json.

    Raises:
        ResultError: it cannot be read, or has no figures.
    """
    data = _read_object(file)
    if not isinstance(data.get("figures"), dict):
        raise ResultError(f"{file} has no figures: expected an efficiency.json.")
    values: dict[str, Value] = {}
    absent: dict[str, str] = {}
    device = str(_object(data.get("settings")).get("device"))
    _add_costs(values, absent, _Costs(file, data["figures"], _object(data.get("peak_memory_bytes")), device, order=0))
    return Measurement(system, str(file), values, absent, _conditions(data, data))


def is_submission(folder: Path) -> bool:
    """Whether a folder is that of a run without scores, as an output folder has beside those of valid modes."""
    return (folder / RUN).is_file() and str(_read_object(folder / RUN).get("mode", "")).startswith("submission")


def _task_order(run: Mapping[str, Any]) -> int:
    return _ORDERS.get(str(run.get("mode", "")).removeprefix("valid_"), len(_ORDERS) + 1)


def _scores(folder: Path) -> tuple[dict[str, Value], dict[str, str], dict[str, str]]:
    """The metrics of scores.json: values, reasons of those without one, protocols."""
    file = folder / SCORES
    data = _read_object(file)
    metrics, rows = data.get("metrics"), _object(data.get("per_sample"))
    if not isinstance(metrics, list) or not all(isinstance(metric, dict) and "name" in metric for metric in metrics):
        raise ResultError(f"{file} has no list of metrics: expected the scores.json of a run.")
    references = _references(folder, rows.get("id"))
    values: dict[str, Value] = {}
    absent: dict[str, str] = {}
    protocols: dict[str, str] = {}
    for metric in metrics:
        name, number = str(metric["name"]), metric.get("value")
        if number is None:
            cure = f"; {metric['fix']}" if metric.get("fix") else ""
            absent[name] = f"{metric.get('reason') or 'no reason is given'}{cure}"
            continue
        checked = _amount(number, f"{file}: {name}")
        clips = _clips(name, rows, references, file=file, value=checked)
        values[name] = Value(checked, f"{file}: {name}", how=_way(metric), clips=clips)
        if metric.get("protocol"):
            protocols[f"protocol of {KINDS[name].title if name in KINDS else name}"] = str(metric["protocol"])
    return values, absent, protocols


def _way(metric: Mapping[str, Any]) -> str:
    """The protocol of a score, and the side of dual transcripts; "" in files that have no signatures."""
    fields = dict(part.partition(":")[::2] for part in str(metric.get("signature") or "").split("|"))
    side = fields.get("dual", "none")
    named = f"the protocol {fields['protocol']}" if "protocol" in fields else ""
    return f"{named} with dual transcripts {side}" if named and side != "none" else named


def _clips(
    name: str, rows: Mapping[str, Any], references: tuple[str, ...], *, file: Path, value: float
) -> Clips | None:
    """The clips behind a metric, where scores.json has those that add up to its value."""
    if name not in ("wer", *_MEANS):
        return None
    above = rows.get("word_edits" if name == "wer" else name)
    ids = rows.get("id")
    if not isinstance(above, list) or not isinstance(ids, list):
        return None
    below = rows.get("reference_words") if name == "wer" else [1.0] * len(above)
    if not isinstance(below, list):
        return None
    if len({len(ids), len(above), len(below)}) != 1:
        raise ResultError(f"{file}: per_sample of {name} has another number of rows than ids: score the run again.")
    where = f"{file}: per_sample of {name}"
    numerators = tuple(_amount(each, f"{where}, {row}") for row, each in zip(ids, above, strict=True))
    denominators = tuple(_amount(each, f"{where}, {row}") for row, each in zip(ids, below, strict=True))
    total = sum(denominators)
    if not total or abs(sum(numerators) / total - value) > 1e-6 * max(1.0, value):
        raise ResultError(f"{file}: {name} is {value}, but its rows do not add up to that: score the run again.")
    return Clips(tuple(map(str, ids)), references, numerators, denominators)


def _references(folder: Path, ids: object) -> tuple[str, ...]:
    """What the rows' answers are compared with, from predictions.jsonl; () where it does not say."""
    file = folder / PREDICTIONS
    if not file.is_file() or not isinstance(ids, list):
        return ()
    found: list[str] = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} cannot be read: {error}.") from error
    # Not splitlines: a text may hold other line ends of Unicode.
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ResultError(f"{file}:{number} is cut or no JSON: go on with the run (--resume {folder}).") from error
        if not isinstance(row, dict):
            raise ResultError(f"{file}:{number}: expected an answer, an object of JSON.")
        if number <= len(ids) and row.get("id") != ids[number - 1]:
            raise ResultError(
                f"{file}:{number} is of {row.get('id')}, and {SCORES} has {ids[number - 1]} there: score the run again "
                "(--resume)."
            )
        found.append(json.dumps(row.get("reference"), ensure_ascii=False))
    if len(found) != len(ids):
        raise ResultError(
            f"{file} has {len(found)} answers and {SCORES} {len(ids)} rows: score the run again (--resume {folder})."
        )
    return () if set(found) == {"null"} else tuple(found)


def _add_costs(values: dict[str, Value], absent: dict[str, str], found: _Costs) -> None:
    """Add memory_gb and latency_s, or why they are not there."""
    where = f"{found.origin}: figures"
    peak = _median(found.figures, "challenge_memory_bytes")
    kind = next((name for name in _MEMORY if found.memory.get(name) is not None), None)
    if peak is not None:
        # On a CPU it is the process's memory, which no GPU's compares with.
        how = f"the challenge's protocol on {found.device.partition(':')[0]}"
        values["memory_gb"] = Value(_amount(peak, where) / GIB, where, how=how, order=found.order)
    elif kind is not None:
        peaks = f"{found.origin}: peak_memory_bytes.{kind}"
        values["memory_gb"] = Value(_amount(found.memory[kind], peaks) / GIB, peaks, how=kind, order=found.order)
    else:
        absent["memory_gb"] = "no peak of memory was measured"
    latency = _median(found.figures, "challenge_latency_seconds")
    if latency is not None:
        how = "the challenge's protocol"
        values["latency_s"] = Value(_amount(latency, where), where, how=how, order=found.order)
        return
    parts = [_median(found.figures, name) for name in (_FIRST, _FURTHER)]
    missing = [name for name, part in zip((_FIRST, _FURTHER), parts, strict=True) if part is None]
    if missing:
        absent["latency_s"] = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    else:
        total = sum(_amount(part, where) for part in parts)
        values["latency_s"] = Value(total, where, how=_LATENCY, order=found.order)


def _median(figures: Mapping[str, Any], name: str) -> object:
    return _object(figures.get(name)).get("median")


def _conditions(measured: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """What times and memory hold for."""
    settings, machine = _object(measured.get("settings")), _object(record.get("machine"))
    found = {name: str(settings[name]) for name in _CONDITIONS if name in settings}
    return found | ({"processor": str(machine["processor"])} if "processor" in machine else {})


def _amount(value: object, where: str) -> float:
    """A finite number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ResultError(
            f"{where}: expected a number that is not negative, found {value!r}: measure or score it again."
        )
    return float(value)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _read_object(file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultError(f"{file.parent} has no {file.name}: expected the folder of a finished run.") from error
    except (OSError, ValueError) as error:
        raise ResultError(f"{file} cannot be read: {error}.") from error
    if not isinstance(data, dict):
        raise ResultError(f"{file}: expected an object of JSON.")
    return data
