"""The folder of one run: its name, its journals, and what it takes to go on with it.

In: the output folder, a mode, what the run is made of. Out: paths, and the predictions that earlier attempts have left.

    <time>_<mode>.csv               the result
    <time>_<mode>/run.json          says what the run is of; written before the first answer and at the end
    <time>_<mode>/predictions.jsonl written as it goes by one process that starts anew, else merged at the end; then in
                                    the annotation's order
    <time>_<mode>/parts/            until then journals, one a process and attempt (2-0.jsonl), marks, clips.json
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluator.errors import ConfigError, JournalError
from evaluator.run.journal import is_being_written
from evaluator.run.record import RunRecord
from evaluator.tasks import Mode, is_scored
from evaluator.wording import named, shown

logger = logging.getLogger(__name__)

# What changes no text: where and how fast it runs, and what is done with the texts afterwards.
_FREE_RUN_KEYS = frozenset(
    {
        *("device", "output_dir", "batch_size_eval", "decode_slots", "num_workers"),
        *("empty_text", "on_audio_error", "latency_clips", "report", "clip_timeout_s", "max_failures"),
    }
)
# How patiently a server is asked, and by which key.
_FREE_MODEL_KEYS = frozenset({"timeout_s", "max_retries", "key_variable"})
# Journals and marks of an attempt; whatever else lies in the folder of parts is somebody else's.
_PART = re.compile(
    r"(?P<attempt>\d{1,9})(?:-\d{1,9}\.(?:jsonl|begun|(?:joined|done|beat)\.json)|\.plan\.json|\.\d{1,9}\.lease)"
    r"|pause|stop"
)
_JOURNAL = re.compile(r"(\d{1,9})-(\d{1,9})\.jsonl")


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where one run writes: the CSV, and the folder beside it."""

    csv: Path
    folder: Path

    @property
    def predictions(self) -> Path:
        """The journal of the whole run."""
        return self.folder / "predictions.jsonl"

    @property
    def record(self) -> Path:
        """What was run."""
        return self.folder / "run.json"

    @property
    def parts(self) -> Path:
        """Folder of the processes' journals and marks."""
        return self.folder / "parts"


def results_folder(output_dir: Path, mode: Mode) -> Path:
    """The folder that the runs of a mode lie in."""
    return output_dir / ("valid_results" if is_scored(mode) else "submission_results")


def make_run_paths(output_dir: Path, mode: Mode, started: datetime, *, limit: int | None = None) -> RunPaths:
    """Make the folder of a run that began at `started`, and name its CSV.

    Two runs of the same second get two names: the later one's ends in "-2".

    Args:
        output_dir: the folder of all results; need not exist.
        mode: what is run.
        started: its beginning.
        limit: so many rows only; the name says so, because such a CSV is no submission.

    Returns:
        RunPaths: for example valid_results/2025-01-31_09-05-00_valid_asr.csv and the folder without ".csv";
        ..._submission_asr_first10.csv with a limit of 10.

    Raises:
        ConfigError: if the folder cannot be made.
    """
    part = "" if limit is None else f"_first{limit}"
    return paths_of(make_folder(results_folder(output_dir, mode), f"{started:%Y-%m-%d_%H-%M-%S}_{mode}{part}"))


def make_folder(parent: Path, stem: str) -> Path:
    """Make a folder `stem` in `parent`, or "<stem>-2", "<stem>-3", ... where that is taken.

    Raises:
        ConfigError: if it cannot be made.
    """
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"Cannot make the folder {folder}: {error.strerror}.") from error
        else:
            return folder


def paths_of(folder: Path) -> RunPaths:
    """The paths of a run whose folder is there."""
    return RunPaths(csv=folder.with_name(f"{folder.name}.csv"), folder=folder)


def identity_of(record: RunRecord, versions: Mapping[str, str]) -> dict[str, str]:
    """What the texts of a run depend on, as hashes: a run goes on only where all of them are the same.

    Args:
        record: mode, config, annotation, checkpoint, model_files, limit and control are known.
        versions: package -> version; those of Python and the system do not count, for machines may differ in them.

    Returns:
        dict[str, str]: "mode", "configuration", "annotation", "checkpoint", "packages" -> hash, and for each key that
        names a file of the model what is in it, "" where that is not known yet; "limit" and
        "control", where there are, as they are.
    """
    config = _settings(record.config or {})
    packages = {name: version for name, version in versions.items() if name not in ("python", "platform")}
    return {
        "mode": str(record.mode),
        "configuration": _hash(config),
        "annotation": (record.annotation or {}).get("sha256") or "",
        "checkpoint": (record.checkpoint or {}).get("sha256") or "",
        "packages": _hash(packages),
        **(record.model_files or {}),
        **({} if record.limit is None else {"limit": str(record.limit)}),
        **({} if record.control is None else {"control": record.control}),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a configuration without what changes no text."""
    kept = {name: section for name, section in config.items() if name != "scoring"}
    for section, free in (("run", _FREE_RUN_KEYS), ("model", _FREE_MODEL_KEYS)):
        kept[section] = {key: value for key, value in kept[section].items() if key not in free}
    return kept


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs in two configurations: " generate.num_beams was 4 and is 1."; "" where nothing does."""
    before, after = (
        {f"{name}.{key}": value for name, section in _settings(config).items() for key, value in section.items()}
        for config in (then, now)
    )
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    told = [f"{key} was {shown(before.get(key))} and is {shown(after.get(key))}" for key in keys]
    return f" {named(told)}." if told else ""


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """The parts in which two identities differ: ["configuration", "model.test_prompt_path"].

    What was not known, because a file was only fetched by that run, does not differ.
    """
    return [name for name in {**second, **first} if _differs(first, second, name)]


def _differs(first: Mapping[str, str], second: Mapping[str, str], name: str) -> bool:
    unknown = "." in name and not (first.get(name, " ") and second.get(name, " "))
    return not unknown and first.get(name) != second.get(name)


def find_run(
    resume: str, parent: Path, identity: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> RunPaths | None:
    """The interrupted run that is to go on.

    Args:
        resume: a run's folder (its CSV or predictions.jsonl will do), or "auto": the latest run in `parent` with the
            same identity that is unfinished or has rows without an answer.
        parent: the folder that the runs of this mode lie in.
        identity: what is run now.
        config: the configuration of now without secrets, to name the keys that differ.

    Returns:
        RunPaths, or None if "auto" finds nothing to go on with.

    Raises:
        JournalError: the folder named is no run's, or of a run of something else; or a living process writes there.
    """
    if resume == "auto":
        for folder in sorted(parent.glob(f"*_{identity['mode']}*"), reverse=True):
            record = RunRecord.read(folder / "run.json")
            if record is None or _is_over(record) or record.identity is None:
                continue
            wrong = differences(record.identity, identity)
            if not wrong:
                return _not_in_use(paths_of(folder))
            logger.info("%s is unfinished and stays as it is: %s differ(s).", folder, ", ".join(wrong))
        logger.info("There is no interrupted run to go on with; this one starts anew.")
        return None
    folder = folder_of(Path(resume))
    record = RunRecord.read(folder / "run.json")
    if record is None or record.identity is None:
        raise JournalError(f"{folder} is no folder of a run (there is no run.json that says of what); see --resume.")
    wrong = differences(record.identity, identity)
    if wrong:
        keys = _changed(record.config, config) if "configuration" in wrong and record.config and config else ""
        raise JournalError(
            f"{folder} cannot be resumed: {', '.join(wrong)} differ(s) from then, and answers of two kinds would "
            f"be mixed.{keys} Run with what it was started with (run.json has it), or start anew without --resume."
        )
    return _not_in_use(paths_of(folder))


def folder_of(path: Path) -> Path:
    """The folder of a run that is named by itself, by its CSV or by its predictions.jsonl."""
    folder = path.with_suffix("") if path.suffix == ".csv" else path.parent if path.suffix == ".jsonl" else path
    if folder.name in ("", ".."):  # typed inside the folder: its CSV is named after it
        folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would also follow links
    return folder


def _is_over(record: RunRecord) -> bool:
    """Whether nothing is left of a run. One that ended while latency was measured has its results, but not its end.

    Rows without an answer are left: a server may be there again, a clip in its place.
    """
    failed = (record.counts or {}).get("failed")
    return record.status == "finished" and not failed and not (record.latency or {}).get("interrupted")


def next_attempt(paths: RunPaths) -> int:
    """The number of the attempt that starts now: 1 in a new folder."""
    matches = [match for path in _listed(paths.parts) if (match := _PART.fullmatch(path.name))]
    found = [int(match["attempt"]) for match in matches if match["attempt"]]
    return 1 + max([*found, 1 if paths.predictions.exists() else 0])


def remove_parts(paths: RunPaths) -> None:
    """Remove what the attempts have left; what is not theirs stays."""
    with contextlib.suppress(OSError):
        for path in _listed(paths.parts):
            if _PART.fullmatch(path.name):
                path.unlink()
        paths.parts.rmdir()


def missing_rows(ids: Sequence[str], total: int) -> str:
    """["test0001", "test0004"], 5 -> "2 of 5 rows have no answer (test0001, test0004)"; at most ten are named."""
    return f"{len(ids)} of {total} rows have no answer ({named(ids, 10)})"


def journals(paths: RunPaths) -> list[Path]:
    """All journals, those of later attempts later."""
    found = [(match, path) for path in _listed(paths.parts) if (match := _JOURNAL.fullmatch(path.name))]
    parts = sorted(found, key=lambda part: (int(part[0][1]), int(part[0][2])))
    return [*([paths.predictions] if paths.predictions.exists() else []), *(path for _, path in parts)]


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _not_in_use(paths: RunPaths) -> RunPaths:
    for path in journals(paths):
        if is_being_written(path):
            raise JournalError(f"{path} is being written by a running process; wait for it, or end it first.")
    return paths


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
