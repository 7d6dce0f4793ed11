"""Tests of finding SPICE's files, in every place and state they may be in."""

import logging
import shutil
import zipfile
from pathlib import Path

import pytest

from evaluator.errors import MetricUnavailableError
from evaluator.scoring.spice_files import (
    CORENLP_JAR,
    FULL_MODELS_JAR,
    MODEL_ENTRIES,
    SMALL_MODELS_JAR,
    differing_entries,
    find_spice_files,
    installed_folder,
)

AAC_LIB = Path("aac-metrics", "spice", "lib")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has nothing yet."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("AAC_METRICS_CACHE_PATH", raising=False)
    return folder


@pytest.fixture
def lib(spice_lib: Path) -> Path:
    return spice_lib


def put(lib: Path, folder: Path, *, models: str = SMALL_MODELS_JAR) -> Path:
    """Put the two files into a folder, as links."""
    folder.mkdir(parents=True)
    (folder / CORENLP_JAR).symlink_to(lib / CORENLP_JAR)
    (folder / models).symlink_to(lib / SMALL_MODELS_JAR)
    return folder


def test_the_order_of_the_search(lib: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lib, tmp_path / "option" / AAC_LIB, models=FULL_MODELS_JAR)
    put(lib, tmp_path / "variable" / AAC_LIB)
    put(lib, home / ".cache" / AAC_LIB, models=FULL_MODELS_JAR)
    put(lib, home / ".cache" / "audiolm-evaluator" / "spice")
    monkeypatch.setenv("AAC_METRICS_CACHE_PATH", str(tmp_path / "variable"))
    found = [find_spice_files(str(tmp_path / "option")), find_spice_files()]
    monkeypatch.delenv("AAC_METRICS_CACHE_PATH")
    found.append(find_spice_files())
    shutil.rmtree(home / ".cache" / "aac-metrics")
    found.append(find_spice_files(str(tmp_path / "nowhere")))
    assert [(files.source, files.models.name) for files in found] == [
        ("scoring.cache_path", FULL_MODELS_JAR),
        ("AAC_METRICS_CACHE_PATH", SMALL_MODELS_JAR),
        ("the cache of aac-metrics", FULL_MODELS_JAR),
        ("setup-metrics", SMALL_MODELS_JAR),
    ]
    assert {files.remark for files in found} == {""}


def test_a_folder_may_hold_the_files_itself(lib: Path) -> None:
    files = find_spice_files(str(lib))
    assert files.corenlp == lib / CORENLP_JAR
    class_path = files.class_path()
    assert class_path[0].name == "spice-1.0.jar"
    assert class_path[-2:] == (files.corenlp, files.models)
    assert len(class_path) == 20
    assert all(path.is_file() for path in class_path)


def test_the_users_home_is_expanded(lib: Path, home: Path) -> None:
    put(lib, home / "metrics")
    assert find_spice_files("~/metrics").corenlp.parent == home / "metrics"


def test_nowhere_is_told_with_the_one_command() -> None:
    with pytest.raises(MetricUnavailableError, match="SPICE's two CoreNLP files are not installed") as caught:
        find_spice_files()
    assert caught.value.fix == "run once: audiolm-evaluator setup-metrics"


@pytest.mark.parametrize("state", ["cut off", "not a jar", "an entry is missing", "one file only"])
def test_files_that_cannot_be_used(
    lib: Path, home: Path, tmp_path: Path, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache" / AAC_LIB
    folder.mkdir(parents=True)
    models = folder / FULL_MODELS_JAR
    (folder / CORENLP_JAR).symlink_to(lib / CORENLP_JAR)
    if state == "cut off":
        models.write_bytes((lib / SMALL_MODELS_JAR).read_bytes()[:100_000])
    elif state == "not a jar":
        models.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    elif state == "an entry is missing":
        with zipfile.ZipFile(models, "w") as jar:
            jar.writestr(sorted(MODEL_ENTRIES)[0], "x")
    broken = state != "one file only"
    with pytest.raises(MetricUnavailableError) as caught:
        find_spice_files(str(tmp_path / "cache"))
    assert (str(folder) in caught.value.message) is broken
    # Files elsewhere are used, and the broken ones told of.
    put(lib, installed_folder())
    with caplog.at_level(logging.WARNING):
        assert find_spice_files(str(tmp_path / "cache")).source == "setup-metrics"
    assert (str(folder) in caplog.text) is broken


def test_other_files_than_the_published_are_used_and_named(lib: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copyfile(lib / CORENLP_JAR, folder / CORENLP_JAR)
    with (folder / CORENLP_JAR).open("ab") as file:
        file.write(b"\0")
    with zipfile.ZipFile(lib / SMALL_MODELS_JAR) as jar, zipfile.ZipFile(folder / SMALL_MODELS_JAR, "w") as other:
        for name in MODEL_ENTRIES:
            other.writestr(name, b"Narnia" if name.endswith("/countries") else jar.read(name))
    files = find_spice_files(str(folder))
    assert files.remark.startswith(f"not as published, in {folder}: ")
    assert files.remark.endswith(f"/countries, {CORENLP_JAR}")


def test_the_published_entries(lib: Path) -> None:
    assert len(MODEL_ENTRIES) == 8
    assert differing_entries(lib / SMALL_MODELS_JAR) == []


def test_the_cache_folder_of_the_user(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_folder() == home / ".cache" / "audiolm-evaluator" / "spice"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert installed_folder() == tmp_path / "elsewhere" / "audiolm-evaluator" / "spice"
