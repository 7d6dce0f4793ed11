"""Installs SPICE's two CoreNLP files: from the network or from a file or folder, checked, all or nothing.

In: the archive that aac-metrics-download fetches, the two jars it holds, or the small pair. Out: the 16 MB that SPICE
reads, in the folder where `find_spice_files` looks last; that folder is either complete or as it was before.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from evaluator.errors import MetricUnavailableError
from evaluator.files import sha256
from evaluator.scoring.spice_files import (
    CORENLP_JAR,
    CORENLP_SHA256,
    FULL_MODELS_JAR,
    MODEL_ENTRIES,
    SMALL_MODELS_JAR,
    differing_entries,
    installed_folder,
)

ARCHIVE = "stanford-corenlp-full-2015-12-09.zip"
# The address that aac-metrics-download uses. It has no https; the hashes of what is in the file are what is
# trusted.
ARCHIVE_URL = f"http://nlp.stanford.edu/software/{ARCHIVE}"
# The same release as Maven has it: for a file of the archive that is not the published one.
MAVEN_URL = "https://repo1.maven.org/maven2/edu/stanford/nlp/stanford-corenlp/3.6.0"

Progress = Callable[[int, int], None]

_CODE_CLASS = "edu/stanford/nlp/pipeline/StanfordCoreNLP.class"
_JAR_FOLDERS = (".", "lib", "spice/lib", "aac-metrics/spice/lib", ARCHIVE.removesuffix(".zip"))
_TIMEOUTS = (15.0, 60.0)  # seconds to connect, seconds of silence
_BLOCK = 1 << 20
_NEEDED_BYTES = 900_000_000  # the archive and the models jar that is unpacked from it, while they are read


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the files are, and whether they were there before."""

    folder: Path
    already: bool


@dataclass(frozen=True, slots=True)
class _Jars:
    """The two jars of a source; they may be the wrong ones yet."""

    corenlp: Path
    models: Path


def install_spice_files(
    source: Path | None = None, *, folder: Path | None = None, progress: Progress = lambda done, total: None
) -> Installed:
    """Install the two files.

    Args:
        source: the archive, one of the two jars beside the other one, or a folder with either; None: the
            network.
        folder: where to; None: `installed_folder()`.
        progress: called with (bytes received, bytes in all; 0 if unknown) while downloading.

    Returns:
        Installed: a complete folder. Nothing is done if it was complete and no source is given.

    Raises:
        MetricUnavailableError: the source is missing or wrong, there is no network, no space or no right to write.
    """
    target = installed_folder() if folder is None else folder
    if source is None and _is_complete(target):
        return Installed(folder=target, already=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".setup-", dir=target.parent) as name:
            scratch = Path(name)
            jars = _download(scratch, progress) if source is None else _from(source, scratch)
            new = scratch / "new"
            _build(jars, new)
            _swap(new, target, scratch / "old")
    except OSError as error:
        fix = f"make room and rights to write in {target.parent}, then run the command again"
        raise MetricUnavailableError(f"the files cannot be installed: {error}", fix=fix) from error
    return Installed(folder=target, already=False)


def _is_complete(folder: Path) -> bool:
    try:
        return _wrong(_Jars(folder / CORENLP_JAR, folder / SMALL_MODELS_JAR)) == []
    except OSError:
        return False


def _wrong(jars: _Jars) -> list[str]:
    """What of the two jars is not as published."""
    wrong = [] if sha256(jars.corenlp) == CORENLP_SHA256 else [CORENLP_JAR]
    try:
        return [*wrong, *differing_entries(jars.models)]
    except (zipfile.BadZipFile, KeyError):
        return [*wrong, jars.models.name]


def _build(jars: _Jars, folder: Path) -> None:
    """Write the two files into a new folder, and check what was written."""
    wrong = _wrong(jars)
    if wrong:
        fix = f"give both jars as Maven has them ({MAVEN_URL}/) in one folder: setup-metrics --from FOLDER"
        raise MetricUnavailableError(f"not as published: {', '.join(wrong)}", fix=fix)
    folder.mkdir()
    shutil.copyfile(jars.corenlp, folder / CORENLP_JAR)
    write_models_jar(jars.models, folder / SMALL_MODELS_JAR)
    if not _is_complete(folder):
        raise OSError(f"what was written to {folder} reads back differently")


def write_models_jar(models: Path, target: Path) -> None:
    """Copy SPICE's eight entries into a jar whose bytes depend on nothing else: sorted, stored, undated."""
    with zipfile.ZipFile(models) as jar, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as small:
        for name in sorted(MODEL_ENTRIES):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            small.writestr(entry, jar.read(name))


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put a complete folder in the place of `target`, whatever is there."""
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _from(source: Path, scratch: Path) -> _Jars:
    """The jars of a file or folder that the user names."""
    if source.is_dir():
        jars = _jars_in(source)
        if jars is not None:
            return jars
        if (source / ARCHIVE).is_file():
            return _unpack(source / ARCHIVE, scratch)
    elif zipfile.is_zipfile(source):
        names = _names(source)
        if any(name.endswith(f"/{CORENLP_JAR}") for name in names):
            return _unpack(source, scratch)
        jars = _beside(source, names)
        if jars is not None:
            return jars
    missing = "" if source.exists() else " (there is nothing there)"
    fix = f"name {ARCHIVE}, or a folder that has it, or one that has {CORENLP_JAR} and {FULL_MODELS_JAR}"
    raise MetricUnavailableError(f"{source} does not hold SPICE's files{missing}", fix=fix)


def _names(archive: Path) -> Sequence[str]:
    try:
        with zipfile.ZipFile(archive) as file:
            return file.namelist()
    except zipfile.BadZipFile:
        return ()


def _jars_in(folder: Path) -> _Jars | None:
    for place in (folder / name for name in _JAR_FOLDERS):
        for models in (place / SMALL_MODELS_JAR, place / FULL_MODELS_JAR):
            if models.is_file() and (place / CORENLP_JAR).is_file():
                return _Jars(place / CORENLP_JAR, models)
    return None


def _beside(jar: Path, names: Sequence[str]) -> _Jars | None:
    """The pair of which `jar`, under whatever name, is one."""
    if set(MODEL_ENTRIES) <= set(names) and (jar.parent / CORENLP_JAR).is_file():
        return _Jars(jar.parent / CORENLP_JAR, jar)
    if _CODE_CLASS in names:
        for models in (jar.parent / SMALL_MODELS_JAR, jar.parent / FULL_MODELS_JAR):
            if models.is_file():
                return _Jars(jar, models)
    return None


def _unpack(archive: Path, scratch: Path) -> _Jars:
    """Take the two jars out of the archive."""
    unpacked = {}
    try:
        with zipfile.ZipFile(archive) as file:
            for wanted in (CORENLP_JAR, FULL_MODELS_JAR):
                name = next(name for name in file.namelist() if name.endswith(f"/{wanted}"))
                unpacked[wanted] = scratch / wanted
                with file.open(name) as packed, unpacked[wanted].open("wb") as jar:
                    shutil.copyfileobj(packed, jar, _BLOCK)
    except (zipfile.BadZipFile, StopIteration, EOFError) as error:
        fix = f"fetch it again: {ARCHIVE_URL}"
        raise MetricUnavailableError(f"{archive} is damaged or is not CoreNLP 3.6.0", fix=fix) from error
    return _Jars(unpacked[CORENLP_JAR], unpacked[FULL_MODELS_JAR])


def _download(scratch: Path, progress: Progress) -> _Jars:
    """The jars of the archive; one that is not as published is fetched from Maven in its stead."""
    free = shutil.disk_usage(scratch).free
    if free < _NEEDED_BYTES:
        raise OSError(f"{_NEEDED_BYTES // 10**6} MB are needed for a while, {free // 10**6} MB are free")
    _fetch(ARCHIVE_URL, scratch / ARCHIVE, progress)
    jars = _unpack(scratch / ARCHIVE, scratch)
    (scratch / ARCHIVE).unlink()
    wrong = _wrong(jars)
    if CORENLP_JAR in wrong:
        _fetch(f"{MAVEN_URL}/{CORENLP_JAR}", jars.corenlp, progress)
    if set(wrong) - {CORENLP_JAR}:
        _fetch(f"{MAVEN_URL}/{FULL_MODELS_JAR}", jars.models, progress)
    return jars


def _fetch(url: str, target: Path, progress: Progress) -> None:
    """Download a file.

    Raises:
        MetricUnavailableError: it could not be had whole.
    """
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUTS) as response:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            with target.open("wb") as file:
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    done += len(block)
                    progress(done, total)
    except requests.RequestException as error:
        fix = f"fetch {url} where there is a network, then: audiolm-evaluator setup-metrics --from FILE"
        raise MetricUnavailableError(f"{url} could not be fetched ({type(error).__name__})", fix=fix) from error
    if total and done != total:
        raise MetricUnavailableError(f"{url} broke off after {done} of {total} bytes", fix="run the command again")
