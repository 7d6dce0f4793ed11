"""What becomes of clips between the check and the answer: replaced, unreadable, longer than the model hears."""

import contextlib
import errno
import io
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_model import EchoLM, FakeProvider, Reply
from fake_site import Site, make_site

import salmonn
import salmonn.audio.loading
from evaluator.audio import loading as audio
from evaluator.audio.clip import Stamp
from evaluator.audio.loading import check_audio, load_audio
from evaluator.audio.reading import WHOLE
from evaluator.audio.source import Opened
from evaluator.config.config import load_config
from evaluator.errors import AnnotationError, AudioError, ContractError, JournalError
from evaluator.evaluate import evaluate
from evaluator.model import Request
from evaluator.run.journal import read_journal
from evaluator.speed.clips import from_annotation
from salmonn.frontend.heard_seconds import heard_seconds


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def replace_clip(site: Site, number: int, *, keep_time: bool = True) -> bytes:
    """Put another clip of the same size, and of the same time, in the place of one; returns what was there."""
    path = site.wavs / f"clip{number}.wav"
    before, data = path.stat(), path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(data[:44] + data[44:][::-1].replace(data[-1:], b"\7"))
    if keep_time:
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_size == before.st_size
    return data


@dataclass
class OnLoad(FakeProvider):
    """A model package that does something when its model is loaded."""

    do: Callable[[], object] = lambda: None

    def load_model(self, config: Mapping[str, Any], device: str) -> Any:
        self.do()
        return super().load_model(config, device)


@pytest.mark.parametrize("policy", ["record", "fail"])
def test_a_clip_that_is_replaced_after_the_check_is_named(site: Site, policy: str) -> None:
    provider = OnLoad(do=lambda: replace_clip(site, 2))
    config = site.load(f"run.on_audio_error={policy}", "run.latency_clips=0")
    if policy == "fail":
        with pytest.raises(AudioError, match=r"clip2\.wav' was replaced or changed after it had been checked"):
            evaluate(provider, config, "valid_asr")
        return
    result = evaluate(provider, config, "valid_asr")
    assert [(failure.id, "was replaced or changed" in failure.reason) for failure in result.failures] == [
        ("test0002", True)
    ]


class Interrupted(EchoLM):
    """Answers two clips, one at a time, and fails."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for number, request in enumerate(requests):
            if number == 2:
                raise KeyboardInterrupt
            yield Reply(request.index, "said", 1, "stop")


@pytest.mark.parametrize("resume", ["auto", "folder"])
def test_a_run_does_not_go_on_with_other_clips_under_the_same_names(site: Site, resume: str) -> None:
    config = site.load("run.latency_clips=0")
    with pytest.raises(KeyboardInterrupt):
        evaluate(FakeProvider(model=Interrupted()), config, "valid_asr")
    (folder,) = (path for path in (site.results / "valid_results").iterdir() if path.is_dir())
    named = "auto" if resume == "auto" else str(folder)
    original = replace_clip(site, 1)
    with pytest.raises(JournalError, match=r"1 clip\(s\) that have their answers .* test0001 \(.*clip1\.wav\)"):
        evaluate(FakeProvider(), config, "valid_asr", resume=named)
    # One that has no answer yet may be mended, and the same bytes with another time are the same clip.
    (site.wavs / "clip1.wav").write_bytes(original)
    replace_clip(site, 4)
    result = evaluate(FakeProvider(), config, "valid_asr", resume=named)
    assert result.folder == folder
    assert [p.text for p in read_journal(folder / "predictions.jsonl")][:2] == ["said", "said"]
    assert not (folder / "parts").exists()


def test_only_what_the_model_hears_is_given_and_counted(site: Site) -> None:
    """Clips of 1, 1.0625, 1.125, 1.1875 and 1.25 s."""
    model = EchoLM()
    model.max_seconds = 1.15  # type: ignore[attr-defined]
    result = evaluate(FakeProvider(model=model), site.load("run.latency_clips=0"), "valid_asr")
    assert (result.counts.cut, result.heard_seconds) == (2, 1.15)
    assert any("longer than 1.15 s" in notice for notice in result.notices)
    heard = sorted(prediction.audio_seconds for prediction in read_journal(result.folder / "predictions.jsonl"))
    assert heard == [1.0, 1.0625, 1.125, 1.15, 1.15]
    assert result.audio_seconds == pytest.approx(sum(heard))


def test_a_package_says_before_loading_how_much_is_heard(site: Site) -> None:
    provider = FakeProvider()
    provider.max_seconds = lambda config: 1.2  # type: ignore[attr-defined]
    assert evaluate(provider, site.load("run.latency_clips=0"), "valid_asr").counts.cut == 1
    provider.max_seconds = lambda config: 3600  # type: ignore[attr-defined]
    result = evaluate(provider, site.load("run.latency_clips=0"), "valid_asr")
    assert (result.counts.cut, result.heard_seconds) == (0, 30.0)


@pytest.mark.parametrize("value", [0, -1, "ten", True, float("nan")])
def test_a_length_that_is_none_breaks_the_contract(site: Site, value: object) -> None:
    model = EchoLM()
    model.max_seconds = value  # type: ignore[attr-defined]
    with pytest.raises(ContractError, match="max_seconds must be a number of seconds above 0"):
        evaluate(FakeProvider(model=model), site.load(), "valid_asr")


def test_the_shipped_model_hears_ten_seconds() -> None:
    root = Path(__file__).resolve().parents[1]
    folder = root / "audiolm-trainer" / "nano" / "whisper"
    assert heard_seconds(str(folder)) == 10.0
    assert heard_seconds("openai/whisper-large-v2") is None
    config = load_config(root / "configs" / "salmonn_eval_config.yaml")
    assert salmonn.max_seconds(config.mapping()) == 10.0


class Failing(io.BytesIO):
    """A file on a disk that breaks behind the first bytes; it has no descriptor."""

    def __init__(self, data: bytes, good: int) -> None:
        super().__init__(data)
        self.good = good

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() + (size or 0) > self.good:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)

    def fileno(self) -> int:
        raise OSError(errno.EBADF, "no descriptor")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("good", [0, 300_000])
def test_a_disk_that_breaks_is_a_named_clip(monkeypatch: pytest.MonkeyPatch, kind: str, good: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 30 * 48000), 48000, format=kind)
    broken = Failing(file.getvalue(), good)
    for module, opener, opened, use, error in (
        (
            audio,
            "opened",
            Opened(broken, ".bin", Stamp(0, 0, 0), WHOLE),
            lambda: load_audio(Path("a.bin"), 16000),
            AudioError,
        ),
        (
            salmonn.audio.loading,
            "open_regular",
            broken,
            lambda: salmonn.audio.loading.load_audio(Path("a.bin")),
            salmonn.audio.loading.AudioError,
        ),
    ):
        broken.seek(0)
        monkeypatch.setattr(module, opener, lambda path, opened=opened: contextlib.nullcontext(opened))
        with pytest.raises(error, match=r"'a\.bin' cannot be read: Input/output error"):
            use()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file of Linux")
def test_special_files_are_named_clips(site: Site, tmp_path: Path) -> None:
    """`/proc/self/mem` calls itself a regular file and gives an error to whoever reads it."""
    os.mkfifo(site.wavs / "pipe.wav")
    (site.wavs / "folder.wav").mkdir()
    (site.wavs / "loop.wav").symlink_to("loop.wav")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(site.wavs / "socket.wav"))
    names = ["/proc/self/mem", "pipe.wav", "folder.wav", "loop.wav", "socket.wav", "x" * 300, "clip0.wav/a.wav"]
    names += ["file:///clip0.wav", "https://example.org/a.wav"]
    rows = [
        {"testset_id": f"test{number:04d}", "path": name, "task": "asr", "text": "a"}
        for number, name in enumerate(["clip0.wav", *names])
    ]
    site.write_annotation(rows)
    with pytest.raises(AnnotationError) as caught:
        evaluate(FakeProvider(), site.load(), "valid_asr")
    assert [problem.where.partition("(")[2] for problem in caught.value.problems] == [
        f"test{number:04d})" for number in (8, 9, *range(1, 8))
    ]
    for name in names[:7]:
        path = site.wavs / name
        with pytest.raises(AudioError, match=r"'.*' "):
            check_audio(path)
        with pytest.raises(salmonn.audio.loading.AudioError, match=r"audio file '.*' "):
            salmonn.audio.loading.load_audio(path)
    server.close()


def test_measurements_give_no_more_than_is_heard(site: Site) -> None:
    model = EchoLM()
    model.max_seconds = 1.15  # type: ignore[attr-defined]
    result = evaluate(FakeProvider(model=model), site.load("run.latency_clips=5"), "valid_asr")
    assert result.latency.reason is None
    assert max(result.latency.audio_seconds) == 1.15
    choice = from_annotation(site.load(), "valid_asr", {"asr": False, "audiocaption_v2": False}, most=5)
    assert max(len(request.audio) for request in choice.requests(16000, 1.15)) == 18400


def test_a_path_that_may_mean_two_files_is_said(site: Site) -> None:
    own = site.folder / "own.wav"
    twin = site.wavs / str(own).lstrip("/")
    twin.parent.mkdir(parents=True)
    for path in (own, twin):
        path.write_bytes((site.wavs / "clip0.wav").read_bytes())
    rows = [{"testset_id": "test0000", "path": str(own), "task": "asr", "text": "a"}]
    site.write_annotation([*rows, {**rows[0], "testset_id": "test0001", "path": "/clip1.wav"}])
    result = evaluate(FakeProvider(), site.load("run.latency_clips=0"), "valid_asr")
    assert [notice for notice in result.notices if "taken as absolute" in notice] == [
        "Paths that begin with / and are there, and below datasets.prefix too; taken as absolute: 1 (test0000)."
    ]
    assert [p.path for p in read_journal(result.folder / "predictions.jsonl")] == [
        str(own),
        str(site.wavs / "clip1.wav"),
    ]
