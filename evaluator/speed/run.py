"""One measurement from a config to efficiency.json: choose clips, load, measure, write.

In: a model package, a validated config and a plan. Out: an efficiency.json in `efficiency_results/<time>_efficiency/`
below the output folder, written when everything is measured.
"""

import logging
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluator.config.config import Config
from evaluator.files import write_json
from evaluator.machine import machine, versions
from evaluator.model import ModelProvider
from evaluator.preflight import check_output_folder
from evaluator.provider.loading import load_model, name_of
from evaluator.provider.probe import heard_seconds
from evaluator.provider.questions import check_parts, found_notices, known_tasks
from evaluator.run.folder import make_folder
from evaluator.run.predict import checked_sampling_rate
from evaluator.speed.challenge_run import run_challenge
from evaluator.speed.clips import ClipChoice, from_annotation, from_noise
from evaluator.speed.figures import HOW_IT_IS_CLOCKED
from evaluator.speed.measure import WARM_UP_ROUNDS, Measurement, Progress, measure
from evaluator.speed.plan import EfficiencyPlan
from evaluator.speed.stopwatch import Clock

logger = logging.getLogger(__name__)

FILE_NAME = "efficiency.json"


def run_efficiency(
    provider: ModelProvider,
    config: Config,
    plan: EfficiencyPlan,
    *,
    clock: Clock = time.perf_counter,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Measure a model and write what was found.

    Args:
        provider: the model package.
        config: the validated config.
        plan: clips and rounds.
        clock: gives seconds.
        progress: told (clips measured, clips to measure).

    Returns:
        Path: the efficiency.json.

    Raises:
        AudioLMError: with a sentence for the user; nothing is written then.
    """
    started = datetime.now().astimezone()
    before = machine()
    tasks = known_tasks(provider, config)
    clips = _choose(config, plan, tasks) if plan.protocol == "clips" else None
    check_parts(provider, config)
    notices = found_notices(provider, config)
    for notice in notices:
        logger.warning("%s", notice)
    check_output_folder(config)
    if clips is None:
        logger.info("Measuring by the challenge's protocol in %d fresh process(es).", plan.processes)
        found = run_challenge(provider, config, known_tasks=tasks, processes=plan.processes, progress=progress)
    else:
        found = _measure_clips(provider, config, plan, clips, clock=clock, progress=progress)
    results = Path(config.run.output_dir) / "efficiency_results"
    path = make_folder(results, f"{started:%Y-%m-%d_%H-%M-%S}_efficiency") / FILE_NAME
    write_json(
        path,
        {
            "started": started.isoformat(timespec="seconds"),
            "ended": datetime.now().astimezone().isoformat(timespec="seconds"),
            "model": name_of(provider),
            "config_file": str(config.path),
            "config": config.public(),
            "notices": notices,
            **found,
            "machine": {**before, "load_average_after": machine().get("load_average")},
            "versions": versions(),
        },
    )
    return path


def _choose(config: Config, plan: EfficiencyPlan, tasks: dict[str, bool]) -> ClipChoice:
    if plan.noise:
        return from_noise(plan.noise, tasks, mode=plan.mode)
    return from_annotation(config, plan.mode or "valid_asr", tasks, most=plan.most_clips)


def _measure_clips(
    provider: ModelProvider,
    config: Config,
    plan: EfficiencyPlan,
    clips: ClipChoice,
    *,
    clock: Clock,
    progress: Progress,
) -> dict[str, Any]:
    """Load the model in this process and measure it on clips."""
    logger.info("Loading the model.")
    model = load_model(provider, config)
    requests = clips.requests(checked_sampling_rate(model), heard_seconds(model))
    logger.info("Measuring %d clip(s), %d round(s) after %d to warm up.", len(requests), plan.repeats, WARM_UP_ROUNDS)
    measured = measure(model, requests, repeats=plan.repeats, clock=clock, progress=progress)
    return _measured(measured, clips, plan)


def _measured(measured: Measurement, clips: ClipChoice, plan: EfficiencyPlan) -> dict[str, Any]:
    """What was measured and how, for JSON."""
    return {
        "protocol": {
            "rounds": plan.repeats,
            "warm_up_rounds": WARM_UP_ROUNDS,
            **HOW_IT_IS_CLOCKED,
        },
        "clips": {
            **clips.source,
            "seconds": [round(seconds, 4) for seconds in measured.audio_seconds],
            "tokens": list(measured.tokens),
        },
        "settings": measured.settings,
        "figures": {name: asdict(spread) for name, spread in measured.figures.items()},
        "texts": {"compared": len(measured.tokens), "different": measured.different_texts},
        "peak_memory_bytes": measured.peak_memory,
        "model_figures": measured.model_figures,
        "missing": measured.missing,
        "notes": list(measured.notes),
    }
