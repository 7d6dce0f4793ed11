"""Tests of installing SPICE's files: every kind of source, a local server, and all or nothing."""

import functools
import hashlib
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.commands.setup import setup_metrics_command
from evaluator.errors import MetricUnavailableError
from evaluator.scoring import spice_setup
from evaluator.scoring.spice_files import (
    CORENLP_JAR,
    FULL_MODELS_JAR,
    MODEL_ENTRIES,
    SMALL_MODELS_JAR,
    find_spice_files,
)
from evaluator.scoring.spice_setup import ARCHIVE, install_spice_files

# sha256 of the models jar that is written, whatever it was read from.
WRITTEN_MODELS = "9046f5619bf4726d358b20118e49928c6a047b4a6237c3c1043084c6ed328812"


@pytest.fixture
def lib(spice_lib: Path) -> Path:
    return spice_lib


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a user who has nothing yet; the folder that is installed into."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AAC_METRICS_CACHE_PATH", raising=False)
    return tmp_path / "cache" / "audiolm-evaluator" / "spice"


@pytest.fixture(scope="module")
def maven(spice_lib: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two jars as Maven has them: the models among other entries, compressed."""
    folder = tmp_path_factory.mktemp("maven")
    lib = spice_lib
    shutil.copyfile(lib / CORENLP_JAR, folder / CORENLP_JAR)
    with (
        zipfile.ZipFile(lib / SMALL_MODELS_JAR) as jar,
        zipfile.ZipFile(folder / FULL_MODELS_JAR, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as models,
    ):
        models.writestr("edu/stanford/nlp/models/ner/english.ser.gz", bytes(100_000))
        for name in sorted(MODEL_ENTRIES, reverse=True):
            models.writestr(name, jar.read(name))
    return folder


@pytest.fixture(scope="module")
def archive(maven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that aac-metrics-download fetches, as far as it matters."""
    path = tmp_path_factory.mktemp("archive") / ARCHIVE
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("stanford-corenlp-full-2015-12-09/README.txt", "x")
        for name in (CORENLP_JAR, FULL_MODELS_JAR):
            file.write(maven / name, f"stanford-corenlp-full-2015-12-09/{name}")
    return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read standard error."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that hang up are what some tests are about."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of a folder, in the place of both addresses; the test fills the folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    with _Server(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{http.server_address[1]}"
        monkeypatch.setattr(spice_setup, "ARCHIVE_URL", f"{address}/{ARCHIVE}")
        monkeypatch.setattr(spice_setup, "MAVEN_URL", f"{address}/maven")
        yield folder
        http.shutdown()
        thread.join()


def assert_installed(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [SMALL_MODELS_JAR, CORENLP_JAR]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "something temporary is left"
    assert hashlib.sha256((folder / SMALL_MODELS_JAR).read_bytes()).hexdigest() == WRITTEN_MODELS
    files = find_spice_files()
    assert (files.source, files.remark) == ("setup-metrics", "")


def assert_untouched(folder: Path) -> None:
    assert not folder.exists()
    assert not folder.parent.exists() or list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    "kind",
    [
        "archive",
        "archive's folder",
        "jars' folder",
        "models jar",
        "code jar",
        "aac cache",
        "small pair",
        "renamed models",
    ],
)
def test_every_kind_of_source(cache: Path, lib: Path, maven: Path, archive: Path, tmp_path: Path, kind: str) -> None:
    aac_lib = tmp_path / "aac" / "aac-metrics" / "spice" / "lib"
    if kind == "aac cache":
        shutil.copytree(maven, aac_lib)
    if kind == "renamed models":
        aac_lib.mkdir(parents=True)
        shutil.copyfile(maven / CORENLP_JAR, aac_lib / CORENLP_JAR)
        shutil.copyfile(maven / FULL_MODELS_JAR, aac_lib / "models.jar")
    source = {
        "archive": archive,
        "archive's folder": archive.parent,
        "jars' folder": maven,
        "models jar": maven / FULL_MODELS_JAR,
        "code jar": maven / CORENLP_JAR,
        "aac cache": tmp_path / "aac",
        "small pair": lib,
        "renamed models": aac_lib / "models.jar",
    }[kind]
    installed = install_spice_files(source)
    assert (installed.folder, installed.already) == (cache, False)
    assert_installed(cache)


def test_what_is_there_is_kept_or_replaced_whole(cache: Path, lib: Path) -> None:
    install_spice_files(lib)
    assert install_spice_files().already  # and no network was asked
    (cache / CORENLP_JAR).write_bytes(b"broken")
    assert not install_spice_files(lib).already
    assert_installed(cache)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "there is nothing there"),
        (lambda path: path.mkdir(), "does not hold SPICE's files"),
        (lambda path: path.write_text("<html>"), "does not hold SPICE's files"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "does not hold SPICE's files"),
    ],
)
def test_a_source_without_the_files(cache: Path, tmp_path: Path, make: object, reason: str) -> None:
    source = tmp_path / "source"
    make(source)  # type: ignore[operator]
    with pytest.raises(MetricUnavailableError, match=reason) as caught:
        install_spice_files(source)
    assert ARCHIVE in caught.value.fix
    assert_untouched(cache)


def test_a_cut_off_archive(cache: Path, archive: Path, tmp_path: Path) -> None:
    cut = tmp_path / ARCHIVE
    cut.write_bytes(archive.read_bytes()[:1_000_000])
    with pytest.raises(MetricUnavailableError, match="damaged"):
        install_spice_files(tmp_path)
    assert_untouched(cache)


def tampered(folder: Path, maven: Path) -> Path:
    """Both jars, one model entry changed and a byte added to the code."""
    folder.mkdir(parents=True)
    (folder / CORENLP_JAR).write_bytes((maven / CORENLP_JAR).read_bytes() + b"\0")
    with zipfile.ZipFile(maven / FULL_MODELS_JAR) as jar, zipfile.ZipFile(folder / FULL_MODELS_JAR, "w") as models:
        for name in MODEL_ENTRIES:
            models.writestr(name, b"Narnia" if name.endswith("/countries") else jar.read(name))
    return folder


def test_wrong_hashes_install_nothing(cache: Path, maven: Path, lib: Path, tmp_path: Path) -> None:
    source = tampered(tmp_path / "tampered", maven)
    with pytest.raises(MetricUnavailableError, match=rf"not as published: {CORENLP_JAR}, .*/countries") as caught:
        install_spice_files(source)
    assert "repo1.maven.org" in caught.value.fix
    assert_untouched(cache)
    # A complete installation survives a bad attempt.
    install_spice_files(lib)
    with pytest.raises(MetricUnavailableError):
        install_spice_files(source)
    assert_installed(cache)


def test_download(cache: Path, archive: Path, server: Path) -> None:
    shutil.copyfile(archive, server / ARCHIVE)
    seen: list[tuple[int, int]] = []
    installed = install_spice_files(progress=lambda done, total: seen.append((done, total)))
    assert not installed.already
    assert seen[-1] == (archive.stat().st_size, archive.stat().st_size)
    assert_installed(cache)


def test_files_that_the_archive_has_wrong_come_from_maven(
    cache: Path, maven: Path, server: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(server / ARCHIVE, "w") as file:
        for path in tampered(tmp_path / "tampered", maven).iterdir():
            file.write(path, f"stanford-corenlp-full-2015-12-09/{path.name}")
    with pytest.raises(MetricUnavailableError, match=rf"maven/{CORENLP_JAR} could not be fetched"):
        install_spice_files()
    assert_untouched(cache)
    shutil.copytree(maven, server / "maven")
    install_spice_files()
    assert_installed(cache)


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice_setup, "ARCHIVE_URL", "http://127.0.0.1:9/nothing.zip")
    with pytest.raises(
        MetricUnavailableError, match=r"nothing\.zip could not be fetched \(ConnectionError\)"
    ) as caught:
        install_spice_files()
    assert "setup-metrics --from FILE" in caught.value.fix
    assert_untouched(cache)


def test_a_missing_page(cache: Path, server: Path) -> None:
    with pytest.raises(MetricUnavailableError, match=r"could not be fetched \(HTTPError\)"):
        install_spice_files()
    assert_untouched(cache)


def test_a_download_that_breaks_off(cache: Path, archive: Path, server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(archive, server / ARCHIVE)

    def copy_some(_self: object, source: object, target: object) -> None:
        target.write(source.read(1_000_000))  # type: ignore[attr-defined]

    monkeypatch.setattr(_Quiet, "copyfile", copy_some)
    with pytest.raises(MetricUnavailableError, match=r"could not be fetched|broke off"):
        install_spice_files()
    assert_untouched(cache)


def test_no_space_and_no_rights(cache: Path, lib: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(lib)._replace(free=5_000_000)
    monkeypatch.setattr(spice_setup.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MetricUnavailableError, match="900 MB are needed for a while, 5 MB are free"):
        install_spice_files()
    cache.parent.rmdir()
    cache.parent.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(MetricUnavailableError, match="cannot be installed"):
        install_spice_files(lib)


def test_interrupted_by_the_user(cache: Path, archive: Path, server: Path) -> None:
    shutil.copyfile(archive, server / ARCHIVE)

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install_spice_files(progress=interrupt)
    assert_untouched(cache)


def test_the_command(cache: Path, lib: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(setup_metrics_command, ["--from", str(lib)])
    assert (done.exit_code, done.stdout) == (0, f"SPICE's files are installed: {cache}\n")
    done = runner.invoke(setup_metrics_command, [])
    assert (done.exit_code, done.stdout) == (0, f"SPICE's files are already there: {cache}\n")
    done = runner.invoke(setup_metrics_command, ["--from", str(tmp_path / "none.zip")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"Error: {tmp_path / 'none.zip'} does not hold SPICE's files (there is nothing there)\n"
    )
    assert "Traceback" not in done.stderr


def test_the_commands_help() -> None:
    done = CliRunner().invoke(setup_metrics_command, ["--help"])
    assert done.exit_code == 0
    assert "--from FILE|FOLDER" in done.stdout
