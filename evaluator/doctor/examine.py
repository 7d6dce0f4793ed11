"""Everything that is looked at before a run, in the order of the report.

In: how the configuration is loaded, the model package if there is one, a mode if one is meant. Out: findings. What is
checked is what a run checks (`preflight.py`, the package's own functions); a run's checks end at the first part that is
wrong, these go on.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING

from evaluator.doctor import needs
from evaluator.doctor.finding import Finding, wrong
from evaluator.doctor.surroundings import caption_files, installation, resources
from evaluator.errors import AudioLMError, ConfigError
from evaluator.extras import check_installed
from evaluator.preflight import check_output_folder, preflight
from evaluator.provider.questions import check_parts, found_notices
from evaluator.tasks import AAC, Mode, task_of

if TYPE_CHECKING:
    from evaluator.config.config import Config
    from evaluator.model import ModelProvider

NO_PACKAGE = "not looked at: python evaluate_salmonn.py --doctor does, and `audiolm-evaluator run --model ... --doctor`"
NO_MODE = "not looked at: give --mode"


def examine(
    load: "Callable[[], Config] | None",
    provider: "ModelProvider | None",
    mode: Mode | None,
    num_gpus: Callable[[], int] | None = None,
) -> Iterator[Finding]:
    """Look at the machine, then at a configuration, its model and its data.

    Args:
        load: reads the configuration; None: the machine alone.
        provider: the model package; None: its part of the configuration and its files are not looked at.
        mode: what will be run; None: neither annotation nor clips are looked at.
        num_gpus: counts the GPUs that the model's library sees.

    Yields:
        Finding: one after the other; those of a large annotation take their time.
    """
    yield from installation()
    yield from resources(num_gpus)
    config = None
    if load is not None:
        try:
            config = load()
            yield Finding("ok", "configuration", str(config.path), config.notices)
        except ConfigError as error:
            yield wrong("configuration", error)
    if mode is None or task_of(mode) is AAC:
        yield from caption_files(*((config.scoring.java_path, config.scoring.cache_path) if config else ()))
    if config is not None:
        yield from _model(provider, config)
        yield from _data(provider, config, mode)


def _model(provider: "ModelProvider | None", config: "Config") -> Iterator[Finding]:
    """Look at the model's files, as its package does before it loads them."""
    if provider is None:
        yield Finding("note", "model", NO_PACKAGE)
        return
    try:
        check_parts(provider, config)
        yield Finding("ok", "model", "its files are there and fit together", tuple(found_notices(provider, config)))
    except ConfigError as error:
        yield wrong("model", error)
    found = needs.weights(config.model)
    if found is not None:
        yield found


def _data(provider: "ModelProvider | None", config: "Config", mode: Mode | None) -> Iterator[Finding]:
    """Look at the annotation, every clip's header, references and the output folder."""
    try:
        check_output_folder(config)
        yield Finding("ok", "output folder", config.run.output_dir)
    except ConfigError as error:
        yield wrong("output folder", error)
        return
    if mode is None:
        yield Finding("note", "annotation", NO_MODE)
        return
    try:
        check_installed("audio")
        asked = provider if provider is not None else SimpleNamespace(__name__="none")
        found = preflight(asked, config, mode, loads=False)
    except AudioLMError as error:
        yield wrong("annotation", error)
        return
    told = tuple(notice for notice in found.notices if notice not in config.notices)
    yield Finding("ok", "annotation", str(found.annotation), told)
    yield needs.clips(found, mode)
    yield needs.disk(config, found, mode)
