"""`--control`: the same run twice, once with the clips and once with other audio, and what listening gains."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from evaluator.errors import ConfigError
from evaluator.tasks import CONTROLS, Control, Mode, is_scored, task_of

if TYPE_CHECKING:
    from evaluator.comparison.drawn_clips import DrawnClips
    from evaluator.config.config import Config
    from evaluator.run.record import EvaluationResult

Function = TypeVar("Function", bound=Callable[..., Any])

HEARD: Mapping[Control, str] = {"silence": "silence", "noise": "white noise", "shuffle": "another clip's audio"}
FOLDER = "control_{}"
"""Below the output folder: a control run is none to hand in or to go on with by mistake."""


def control_options(function: Function) -> Function:
    """Add --control and --control-rows to a command."""
    kind = click.option(
        "--control",
        type=click.Choice(CONTROLS),
        help="Run a valid mode twice, the second time with other audio, and say what listening gains.",
    )
    rows = click.option(
        "--control-rows",
        type=click.IntRange(min=1),
        metavar="N",
        help="Give --control N clips, drawn by scoring.bootstrap_seed, instead of all.",
    )
    return kind(rows(function))


def refuse_stray_control(control: str | None, rows: int | None, mode: Mode | None) -> None:
    """Refuse --control where answers are not scored, and --control-rows where nothing is drawn.

    Raises:
        click.UsageError: if they were typed.
    """
    if rows is not None and control is None:
        raise click.UsageError("--control-rows bounds --control: give both.")
    if rows == 1 and control == "shuffle":
        raise click.UsageError("--control shuffle exchanges clips: --control-rows must be 2 or more.")
    if control is not None and (mode is None or not is_scored(mode)):
        raise click.UsageError("--control compares scores: it belongs to a valid mode.")


def control_config(config: "Config", kind: Control, mode: Mode, annotation: Path | None = None) -> "Config":
    """The configuration of the control run: the same, with a folder of its own for its results.

    Latency is the first run's to measure: it asks clips alone, and shuffle has nothing to exchange there.

    Args:
        config: of the first run.
        kind: what is heard.
        mode: of both runs.
        annotation: of the clips that were drawn; None: all.
    """
    run = config.run.model_copy(update={"output_dir": str(control_folder(config, kind)), "latency_clips": 0})
    if annotation is None:
        return replace(config, run=run)
    named = {"test_ann_path": "", f"test_ann_path_{task_of(mode).name}": str(annotation.absolute())}
    return replace(config, run=run, datasets=config.datasets.model_copy(update=named))


def control_folder(config: "Config", kind: Control) -> Path:
    """Where the results of control runs are."""
    return Path(config.run.output_dir) / FOLDER.format(kind)


def refuse_where_nothing_is_exchanged(kind: Control, plain: "EvaluationResult") -> None:
    """Refuse to shuffle where fewer than two clips were heard.

    Raises:
        ConfigError: naming the kinds that one clip is enough for.
    """
    if kind == "shuffle" and plain.counts.rows - plain.counts.failed < 2:
        raise ConfigError("--control shuffle exchanges clips, and fewer than two were heard: take silence or noise.")


def drawn_clips(plain: "EvaluationResult", config: "Config", mode: Mode, kind: Control, number: int) -> "DrawnClips":
    """Draw clips of the first run into a run folder of their own, with scores.

    Raises:
        AudioLMError: a file cannot be read or written.
    """
    from evaluator.comparison.drawn_clips import draw_clips
    from evaluator.report.summary import write_scores

    folder = control_folder(config, kind) / f"heard_{plain.folder.name}"
    drawn = draw_clips(plain.folder, config, mode, number, folder)
    write_scores(folder / "scores.json", drawn.scored.scores, ids=drawn.scored.ids)
    return drawn


def gain_lines(plain: Path, other: Path, kind: Control, *, of: int) -> list[str]:
    """What listening gains, in lines of text.

    Args:
        plain: folder of the run that heard the clips, or of those that were drawn.
        other: folder of the control run.
        kind: what it heard.
        of: clips of the whole set.

    Raises:
        AudioLMError: the two runs cannot be compared.
    """
    from evaluator.comparison.comparable import comparable
    from evaluator.comparison.compare import compare
    from evaluator.comparison.sources import Source, read_systems
    from evaluator.comparison.units import units_of
    from evaluator.comparison.words import align_systems
    from evaluator.scoring.result import KINDS

    sources = [Source(plain, "clips"), Source(other, kind)]
    systems, metrics = comparable(read_systems(sources, None, protocol=None), ())
    units = units_of("clip", "", systems, None)
    found = compare(systems, metrics, units, align_systems(systems), slices={}, resamples=10_000, seed=0)
    number = len(systems[0].ids)
    drawn = f" drawn of {of} (seed {systems[1].scoring.bootstrap_seed})" if number < of else ""
    lines = [f"listening gain: the same prompts with {HEARD[kind]}, {number} clips{drawn}"]
    for table in found.tables:
        metric, [pair] = KINDS[table.metric], table.pairs
        scale, unit = (100, " %") if metric.unit else (1, "")
        first, second = (scale * (table.values[system.name] or 0.0) for system in systems)
        # A gain is good: fewer errors, or a higher score, with the clips than without.
        sign = -1 if metric.higher_is_better else 1
        gain = sign * scale * pair.difference
        bounds = "" if pair.bounds is None else f" [{_range(pair.bounds, sign * scale)}]"
        lines.append(f"  {metric.title:15} {first:.2f}{unit} heard, {second:.2f}{unit} not: gain {gain:.2f}{bounds}")
    return [*lines, f"  folder          {other}"]


def _range(bounds: tuple[float, float], factor: float) -> str:
    low, high = sorted(factor * bound for bound in bounds)
    return f"{low:.2f}, {high:.2f}"
