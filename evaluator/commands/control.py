"""`--control`: the same run twice, once with the clips and once with other audio, and what listening gains."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evaluator.errors import ConfigError
from evaluator.tasks import CONTROLS, Control, Mode, is_scored

if TYPE_CHECKING:
    from evaluator.config.config import Config
    from evaluator.run.record import EvaluationResult

Function = TypeVar("Function", bound=Callable[..., Any])

HEARD: Mapping[Control, str] = {"silence": "silence", "noise": "white noise", "shuffle": "another clip's audio"}
FOLDER = "control_{}"
"""Below the output folder: a control run is none to hand in or to go on with by mistake."""


def control_option(function: Function) -> Function:
    """Add --control to a command."""
    return click.option(
        "--control",
        type=click.Choice(CONTROLS),
        help="Run a valid mode twice, the second time with other audio, and say what listening gains.",
    )(function)


def refuse_where_nothing_is_scored(control: str | None, mode: Mode | None) -> None:
    """Refuse --control where answers are not scored.

    Raises:
        click.UsageError: if it was typed.
    """
    if control is not None and (mode is None or not is_scored(mode)):
        raise click.UsageError("--control compares scores: it belongs to a valid mode.")


def control_config(config: "Config", kind: Control) -> "Config":
    """The configuration of the control run: the same, with a folder of its own for its results.

    Latency is the first run's to measure: it asks clips alone, and shuffle has nothing to exchange there.
    """
    folder = str(Path(config.run.output_dir) / FOLDER.format(kind))
    return replace(config, run=config.run.model_copy(update={"output_dir": folder, "latency_clips": 0}))


def refuse_where_nothing_is_exchanged(kind: Control, plain: "EvaluationResult") -> None:
    """Refuse to shuffle where fewer than two clips were heard.

    Raises:
        ConfigError: naming the kinds that one clip is enough for.
    """
    if kind == "shuffle" and plain.counts.rows - plain.counts.failed < 2:
        raise ConfigError("--control shuffle exchanges clips, and fewer than two were heard: take silence or noise.")


def gain_lines(plain: "EvaluationResult", other: "EvaluationResult", kind: Control) -> list[str]:
    """What listening gains, in lines of text.

    Raises:
        AudioLMError: the two runs cannot be compared.
    """
    from evaluator.comparison.comparable import comparable
    from evaluator.comparison.compare import compare
    from evaluator.comparison.sources import read_systems
    from evaluator.comparison.units import units_of
    from evaluator.comparison.words import align_systems
    from evaluator.scoring.result import KINDS

    sources = [f"clips={plain.folder}", f"{kind}={other.folder}"]
    systems, metrics = comparable(read_systems(sources, None, protocol=None), ())
    units = units_of("clip", "", systems, None)
    found = compare(systems, metrics, units, align_systems(systems), slices={}, resamples=10_000, seed=0)
    lines = [f"listening gain: the same prompts with {HEARD[kind]}, {len(systems[0].ids)} clips"]
    for table in found.tables:
        metric, [pair] = KINDS[table.metric], table.pairs
        scale, unit = (100, " %") if metric.unit else (1, "")
        first, second = (scale * (table.values[system.name] or 0.0) for system in systems)
        # A gain is good: fewer errors, or a higher score, with the clips than without.
        sign = -1 if metric.higher_is_better else 1
        gain = sign * scale * pair.difference
        bounds = "" if pair.bounds is None else f" [{_range(pair.bounds, sign * scale)}]"
        lines.append(f"  {metric.title:15} {first:.2f}{unit} heard, {second:.2f}{unit} not: gain {gain:.2f}{bounds}")
    return [*lines, f"  folder          {other.folder}"]


def _range(bounds: tuple[float, float], factor: float) -> str:
    low, high = sorted(factor * bound for bound in bounds)
    return f"{low:.2f}, {high:.2f}"
