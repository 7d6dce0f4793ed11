"""Processes that take part in a run that another one begins: those of a launcher, and workers.

In: the same command as that process has, or a socket to it. Out: a journal, from which that process takes the answers.
"""

from multiprocessing.connection import Connection
from pathlib import Path

from evaluator.config.config import Config
from evaluator.machine import versions
from evaluator.model import ModelProvider
from evaluator.preflight import preflight
from evaluator.provider.loading import load_model
from evaluator.run.folder import identity_of, results_folder
from evaluator.run.inputs import note_inputs, note_model
from evaluator.run.record import RunRecord
from evaluator.tasks import Mode
from evaluator.workers.answering import answer_part
from evaluator.workers.launch import Launch
from evaluator.workers.serve import serve


def take_part(provider: ModelProvider, config: Config, mode: Mode, *, launch: Launch, limit: int | None = None) -> None:
    """Answer rows of the run that process 0 of the launch begins, into a journal of this process.

    Args:
        provider: the model package.
        config: the validated config.
        mode: what is run.
        launch: the place of this process, which is not process 0.
        limit: as process 0 has it.

    Raises:
        AudioLMError: as `evaluate`; also if process 0 does not turn up or runs something else.
    """
    ready = preflight(provider, config, mode, limit=limit)
    identity = note_inputs(RunRecord(), provider, config, mode, ready)
    model = load_model(provider, config)
    answer_part(model, config, ready.samples, results_folder(Path(config.run.output_dir), mode), launch, identity)


def serve_rows(provider: ModelProvider, config: Config, connection: Connection) -> int:
    """Answer rows as a worker of a run that another process begins; returns the exit code."""
    record = RunRecord()
    note_model(record, provider, config)
    # What depends on mode and annotation is the other's alone.
    own = {"configuration", "checkpoint", "packages", *(record.model_files or {})}
    identity = {name: value for name, value in identity_of(record, versions()).items() if name in own}
    return serve(provider, config, identity, connection)
