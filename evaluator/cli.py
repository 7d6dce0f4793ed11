"""The commands: `audiolm-evaluator` (validate, setup-metrics, efficiency), and evaluating with a model package.

In: command lines. Out: results on standard output, progress and problems on standard error, and the exit
codes 0 (ok), 1 (a failed check, failed rows, failed scoring), 2 (usage or config), 3 (data), 4 (model), 130
and 143 (signals).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from evaluator.commands.board import board_command
from evaluator.commands.command_line import SETTINGS, ManyValues, version_option
from evaluator.commands.compare import compare_command
from evaluator.commands.control import (
    control_config,
    control_options,
    drawn_clips,
    gain_lines,
    refuse_stray_control,
    refuse_where_nothing_is_exchanged,
)
from evaluator.commands.control_run import pause_command, status_command, stop_command, unpause_command
from evaluator.commands.data.convert import convert_command
from evaluator.commands.deprecated import chosen_mode, deprecated_options
from evaluator.commands.efficiency import (
    efficiency_command,
    efficiency_options,
    refuse_other_protocol,
    refuse_stray_options,
)
from evaluator.commands.explain import explain_command
from evaluator.commands.host import host_command
from evaluator.commands.pages.report import report_command
from evaluator.commands.running.by_name import PROGRAM, RunCommand
from evaluator.commands.running.doctor import doctor_command, report
from evaluator.commands.score import score_command
from evaluator.commands.session import session
from evaluator.commands.settings import settings_command
from evaluator.commands.setup import setup_metrics_command
from evaluator.commands.validate import validate_command
from evaluator.commands.workers import Workers, chosen_workers, refuse_launcher, worker_options
from evaluator.cpu_threads import prepare_cpu_threads
from evaluator.errors import ConfigError
from evaluator.extras import check_installed, extras_of_run
from evaluator.models.choose import RUN_CONFIG
from evaluator.speed.plan import EfficiencyPlan, Protocol
from evaluator.tasks import MODES, TASKS, Control, Mode, task_of
from evaluator.workers.launch import Launch, device_of, launch_of, worker_launch, worker_socket

if TYPE_CHECKING:
    from evaluator.config.config import Config
    from evaluator.conformance import Check
    from evaluator.model import ModelProvider
    from evaluator.workers.pool import Pool

_EXAMPLES = """\
\b
Examples:
  valid_asr       transcribe, score WER and CER
    python {program} --mode valid_asr
  valid_aac       caption, score CIDEr-D, SPIDEr and more
    python {program} --mode valid_aac --device cuda:0
  submission_asr  transcribe for a submission; the annotation needs no texts
    python {program} --mode submission_asr --cfg-path my_config.yaml
  submission_aac  caption for a submission
    python {program} --mode submission_aac --options run.batch_size_eval=4 generate.num_beams=1
  valid_qa        answer questions, score accuracy
    python {program} --mode valid_qa --options datasets.test_ann_path_qa=questions.json
  before a run    what is wrong or missing, and what it will need
    python {program} --doctor --mode valid_asr
  the contract    check that a model of your own keeps it
    python {program} --check
  a try           the first ten rows; the CSV's name and the summary say so
    python {program} --mode valid_asr --limit 10
  several GPUs    the same results from several processes; go on where an interrupted run ended
    torchrun --nproc_per_node 2 {program} --mode valid_asr --resume auto
  speed           measure latency, throughput, memory and size
    python {program} --efficiency --mode valid_asr --clips 32
"""


@dataclass(frozen=True, slots=True)
class _Arguments:
    """What was typed, after the deprecated flags became a mode."""

    mode: Mode | None
    cfg_path: Path
    options: tuple[str, ...]
    device: str | None
    output_dir: str | None
    resume: str | None
    limit: int | None
    check: bool
    doctor: bool
    notices: tuple[str, ...]
    efficiency: EfficiencyPlan | None = None
    control: Control | None = None
    control_rows: int | None = None
    workers: Workers | None = None


def build_evaluate_command(
    provider: "ModelProvider",
    *,
    default_config: Path,
    program: str = "evaluate_salmonn.py",
    num_gpus: Callable[[], int] | None = None,
) -> click.Command:
    """Make the evaluate command of a model package.

    Args:
        provider: the model package; only `load_model` is a must (see evaluator/model.py).
        default_config: default of --cfg-path.
        program: the script's name, for the examples of --help.
        num_gpus: counts the GPUs of this machine, for launches of several processes; None: nobody can.

    Returns:
        click.Command: to be called as the script's main.
    """

    @click.command(cls=ManyValues, epilog=_EXAMPLES.format(program=program), context_settings=SETTINGS)
    @click.option("--mode", type=click.Choice(MODES), help="What to run (see the examples below).")
    @click.option(
        "--cfg-path",
        "--cfg_path",
        type=click.Path(path_type=Path),
        default=default_config,
        show_default=str(default_config.parent.name + "/" + default_config.name),
        help="The YAML configuration.",
    )
    @click.option(
        "--options",
        multiple=True,
        metavar="KEY=VALUE ...",
        help="Override settings: --options run.batch_size_eval=4 generate.num_beams=1",
    )
    @click.option("--device", help="auto, cpu, cuda or cuda:1; overrides run.device.")
    @click.option("--output-dir", "--output_dir", help="Where results go; overrides run.output_dir.", metavar="FOLDER")
    @click.option(
        "--resume",
        metavar="FOLDER|auto",
        help="Go on with an interrupted run: its folder, or auto for the latest that fits, if there is one.",
    )
    @click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Run the first N rows only, for a try: no submission."
    )
    @worker_options
    @control_options
    @click.option("--check", is_flag=True, help="Check the model's contract on made-up audio, and end.")
    @click.option("--doctor", is_flag=True, help="Say what is wrong or missing and what a run will need, and end.")
    @efficiency_options
    @deprecated_options
    @version_option
    def evaluate_command(
        mode: str | None,
        cfg_path: Path,
        options: tuple[str, ...],
        device: str | None,
        output_dir: str | None,
        resume: str | None,
        limit: int | None,
        workers: int | None,
        supervise: bool,
        ray: str | None,
        control: Control | None,
        control_rows: int | None,
        check: bool,
        doctor: bool,
        efficiency: bool,
        protocol: Protocol,
        processes: int,
        clips: int,
        repeats: int,
        noise: tuple[float, ...],
        task: str | None,
        skip_scoring: bool,
    ) -> None:
        """Run a model over an annotation: a CSV in submission modes, a CSV and scores in valid modes."""
        chosen, notices = chosen_mode(mode, task, skip_scoring=skip_scoring)
        flags = {"--check": check, "--doctor": doctor, "--efficiency": efficiency}
        others = [flag for flag, given in flags.items() if given]
        _refuse_contradictions(chosen, others, protocol=protocol, limit=limit)
        elsewhere = next(iter(others), "--control" if control else None)
        _refuse_stray_resume(resume, elsewhere)
        refuse_stray_control(control, control_rows, chosen if not others else None)
        plan = EfficiencyPlan(chosen, noise, clips, repeats, protocol, processes) if efficiency else None
        pool = chosen_workers(workers, supervise=supervise, ray=ray, elsewhere=elsewhere)
        typed = _Arguments(
            chosen,
            cfg_path,
            options,
            device,
            output_dir,
            resume,
            limit,
            check,
            doctor,
            notices,
            plan,
            control,
            control_rows,
            pool,
        )
        raise SystemExit(_run(provider, typed, num_gpus))

    return evaluate_command


def _refuse_contradictions(mode: Mode | None, others: Sequence[str], *, protocol: Protocol, limit: int | None) -> None:
    """Refuse flags that do not belong together.

    Args:
        mode: what to run.
        others: the flags given of those that make another command of it than a run.
        protocol: of --efficiency.
        limit: of a run.

    Raises:
        click.UsageError: naming them.
    """
    if mode is None and not others:
        raise click.UsageError(f"--mode is required: one of {', '.join(MODES)}.")
    if len(others) > 1:
        raise click.UsageError(f"{' and '.join(others)} are {len(others)} commands: give one of them.")
    if limit is not None and others:
        raise click.UsageError("--limit belongs to a run; --efficiency has --clips, and --check reads no annotation.")
    if "--efficiency" not in others:
        refuse_stray_options(click.get_current_context())
    refuse_other_protocol(click.get_current_context(), protocol)
    if protocol == "challenge" and mode is not None and task_of(mode).name != "asr":
        raise click.UsageError(f"--protocol challenge asks for a transcript: leave --mode {mode} out.")


def _refuse_stray_resume(resume: str | None, other: str | None) -> None:
    """Refuse --resume where no run is gone on with: it would be begun anew, and nobody told.

    Raises:
        click.UsageError: naming the other flag.
    """
    if resume is not None and other is not None:
        raise click.UsageError(f"{other} always begins anew: leave it or --resume out.")


def _run(provider: "ModelProvider", arguments: _Arguments, num_gpus: Callable[[], int] | None) -> int:
    """Load the config, then check or evaluate; returns the exit code."""
    given = dict(os.environ)
    socket = worker_socket(os.environ)
    prepare_cpu_threads()
    try:
        launch = launch_of(os.environ)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if socket is not None:
        # RANK and LOCAL_RANK are those of a worker; there is no launch around it.
        launch = worker_launch(os.environ)
    with session(provider, rank=launch.rank, launched=launch.launched) as current:
        if not arguments.doctor:
            check_installed(*extras_of_run(arguments.mode))
        # Below this line imports cost seconds; --help and usage errors never get here.
        from evaluator.config.config import load_config
        from evaluator.provider.questions import config_check

        for notice in arguments.notices if launch.rank == 0 else ():
            current.say(f"Note: {notice}")
        load = partial(
            load_config,
            arguments.cfg_path,
            arguments.options,
            device=arguments.device,
            output_dir=arguments.output_dir,
            check_extra=config_check(provider),
            task=task_of(arguments.mode) if arguments.mode else None,
        )
        if arguments.doctor:
            return report(load, provider, arguments.mode, num_gpus) if launch.rank == 0 else 0
        config = load()
        current.redact.add(config.secret)
        config = config.on_device(device_of(config.run.device, launch, num_gpus))
        if socket is not None:
            from multiprocessing.connection import Connection

            from evaluator.workers.taking_part import serve_rows

            return serve_rows(provider, config, Connection(socket))
        if arguments.check:
            # One process is enough to check a model.
            return _check(provider, config, arguments.mode) if launch.rank == 0 else 0
        if arguments.efficiency is not None:
            return _efficiency(provider, config, arguments.efficiency) if launch.rank == 0 else 0
        resume = arguments.resume or ("auto" if launch.restarted else None)
        mode = cast("Mode", arguments.mode)
        if arguments.control is not None:
            return _control(provider, config, arguments, arguments.control, launch=launch)
        pool = None
        if arguments.workers is not None:
            refuse_launcher(launch.world_size)
            pool = arguments.workers.pool(given, num_gpus)
        return _evaluate(provider, config, mode, resume=resume, launch=launch, limit=arguments.limit, pool=pool)


def _evaluate(
    provider: "ModelProvider",
    config: "Config",
    mode: Mode,
    *,
    resume: str | None,
    launch: Launch,
    limit: int | None,
    pool: "Pool | None",
) -> int:
    from evaluator.commands.session import ProgressBar
    from evaluator.evaluate import evaluate
    from evaluator.report.summary import summarize
    from evaluator.workers.taking_part import take_part

    if launch.rank > 0:
        take_part(provider, config, mode, launch=launch, limit=limit)
        return 0
    with ProgressBar() as progress:
        result = evaluate(
            provider, config, mode, progress=progress, resume=resume, launch=launch, limit=limit, pool=pool
        )
    click.echo("\n".join(summarize(result)))
    return result.exit_code


def _control(
    provider: "ModelProvider", config: "Config", arguments: _Arguments, kind: Control, *, launch: Launch
) -> int:
    """Run the mode with the clips and with other audio, one model for both."""
    if launch.world_size > 1:
        raise ConfigError("--control runs in one process: leave the launcher out.")
    from evaluator.commands.session import ProgressBar
    from evaluator.evaluate import evaluate
    from evaluator.provider.control import Controlled, LoadedOnce
    from evaluator.report.summary import summarize

    once, mode, limit = LoadedOnce(provider), cast("Mode", arguments.mode), arguments.limit
    with ProgressBar() as progress:
        plain = evaluate(once, config, mode, progress=progress, launch=launch, limit=limit)
    click.echo("\n".join(summarize(plain)))
    refuse_where_nothing_is_exchanged(kind, plain)
    heard, annotation = plain.folder, None
    if arguments.control_rows is not None and arguments.control_rows < plain.counts.rows:
        drawn = drawn_clips(plain, config, mode, kind, arguments.control_rows)
        heard, annotation, limit = drawn.folder, drawn.annotation, None
    with ProgressBar() as progress:
        controlled = control_config(config, kind, mode, annotation)
        other = evaluate(Controlled(once, kind), controlled, mode, progress=progress, launch=launch, limit=limit)
    click.echo("\n".join(["", *gain_lines(heard, other.folder, kind, of=plain.counts.rows)]))
    return plain.exit_code or other.exit_code


def _check(provider: "ModelProvider", config: "Config", mode: Mode | None) -> int:
    from evaluator.commands.session import ProgressBar
    from evaluator.conformance import check_model
    from evaluator.provider.loading import load_model
    from evaluator.provider.questions import check_parts, known_tasks

    tasks = known_tasks(provider, config)
    check_parts(provider, config)
    first = [label for task in TASKS if mode is None or mode.endswith(task.name) for label in task.labels]
    ordered = dict(sorted(tasks.items(), key=lambda item: item[0] not in first))
    model = load_model(provider, config)
    with ProgressBar("check") as progress:
        checks = check_model(model, ordered, progress=progress)
    click.echo("\n".join(_check_lines(checks)))
    return 0 if all(check.passed for check in checks) else 1


def _efficiency(provider: "ModelProvider", config: "Config", plan: EfficiencyPlan) -> int:
    from evaluator.commands.session import ProgressBar
    from evaluator.speed.run import run_efficiency
    from evaluator.speed.table import read_column, table

    with ProgressBar("clip" if plan.protocol == "clips" else "iteration") as progress:
        path = run_efficiency(provider, config, plan, progress=progress)
    click.echo("\n".join([*table([read_column(path)]), "", str(path)]))
    return 0


def _check_lines(checks: "Iterable[Check]") -> list[str]:
    checks = list(checks)
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        mark = "ok    " if check.passed else "FAILED"
        lines.append(f"{mark}  {check.name:{width}}  {check.detail}")
    failed = sum(not check.passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed." if failed else "The model keeps the contract."
    return [*lines, verdict]


@click.group(context_settings=SETTINGS)
@version_option
def main() -> None:
    """Run models, validate submissions, score answers, compare and rank runs, set up what the metrics need."""


main.add_command(RunCommand(partial(build_evaluate_command, default_config=RUN_CONFIG, program=PROGRAM)), "run")
main.add_command(doctor_command, "doctor")
main.add_command(validate_command, "validate")
main.add_command(setup_metrics_command, "setup-metrics")
main.add_command(efficiency_command, "efficiency")
main.add_command(host_command, "host")
main.add_command(convert_command, "convert")
main.add_command(settings_command, "settings")
main.add_command(board_command, "board")
main.add_command(explain_command, "explain")
main.add_command(score_command, "score")
main.add_command(compare_command, "compare")
main.add_command(report_command, "report")
main.add_command(status_command, "status")
main.add_command(pause_command, "pause")
main.add_command(unpause_command, "unpause")
main.add_command(stop_command, "stop")
