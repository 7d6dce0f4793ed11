"""`openai:` models against `transformers serve`: tiny random models on the loopback, offline, and the server killed."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_models

from evaluator.conformance import check_model
from evaluator.model import Request
from evaluator.models.hub import TransformersPackage
from evaluator.models.servers.package import ServerPackage

pytestmark = pytest.mark.slow
PROGRAMS = Path(sys.executable).parent
CONFIG = {"model": {}, "generate": {"max_new_tokens": 12}, "datasets": {}, "run": {"batch_size_eval": 8, "seed": 42}}
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@dataclass
class Serving:
    """A server that can be ended and started again on its port."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        typed = [PROGRAMS / "transformers", "serve", "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu"]
        environment = {**os.environ, **OFFLINE, "HF_HOME": str(self.folder / "hub")}
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, typed), "--dtype", "float32"], env=environment, stdout=log, stderr=log
            )
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address[:-3]}/health", timeout=5):
                return
            assert self.process.poll() is None, (self.folder / "serve.log").read_text()
            time.sleep(0.2)
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    (folder / "hub" / "hub").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("qwen2_audio", "glmasr", "whisper"):
        tiny_models.make(name, folder / name)
    found = Serving(folder, port)
    found.start()
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def clips() -> list[Request]:
    """Noise of eight lengths, in steps of 16 bits, which a file of 16 bits keeps."""
    random = np.random.default_rng(0)
    waves = [np.rint(3000 * random.standard_normal(16000 + 5000 * index)) / 32768 for index in range(8)]
    return [Request(index, wave.astype(np.float32), "asr", "") for index, wave in enumerate(waves)]


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("qwen2_audio", "input_audio"),
        ("qwen2_audio", "audio_url"),
        ("glmasr", "input_audio"),
        ("whisper", "transcriptions"),
    ],
)
def test_a_served_model_says_what_it_says_in_this_process(serving: Serving, name: str, ask: str) -> None:
    folder = serving.folder / name
    config = {**CONFIG, "model": {"ask": ask}}
    # A book of one's own takes the place of a processor's request for a transcript, which no chat makes.
    book = serving.folder / "book.yaml"
    book.write_text("asr: word1 word2 word3\n")
    served = ServerPackage(f"{serving.address}#{folder}", book).load_model(config, "auto")
    # The server gives transcriptions transformers' own limit.
    here = {**CONFIG, "generate": {"max_new_tokens": 20 if ask == "transcriptions" else 12}}
    own = TransformersPackage(str(folder), book, trusted=False).load_model(here, "cpu")
    texts = [{each.index: each.text for each in model.generate(iter(clips()))} for model in (served, own)]
    assert texts[0] == texts[1]
    assert len(set(texts[0].values())) > 1
    checks = check_model(served, {"asr": False})
    assert [check for check in checks if not check.passed] == []
    [load] = [check.detail for check in checks if check.name == "under load"]
    assert load == "0 of 16 rows differ between 1 and 8 at once"


def test_an_answer_that_the_limit_cuts_is_known(serving: Serving) -> None:
    package = ServerPackage(f"{serving.address}#{serving.folder / 'qwen2_audio'}", None)
    [answer] = package.load_model({**CONFIG, "generate": {"max_new_tokens": 2}}, "auto").generate(iter(clips()[:1]))
    assert (answer.finish_reason, answer.num_tokens) == ("length", 2)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["here", "in workers"])
def test_a_server_that_is_killed_costs_no_answer(serving: Serving, tmp_path: Path, workers: tuple[str, ...]) -> None:
    rows = []
    for request in clips() * 8:
        name = f"clip{len(rows):02d}.wav"
        soundfile.write(tmp_path / name, request.audio, 16000, subtype="PCM_16")
        rows.append(f'{{"testset_id": "test{len(rows):04d}", "path": "{name}", "task": "asr", "text": "word1"}}')
    (tmp_path / "asr.json").write_text(f'{{"annotation": [{", ".join(rows)}]}}')

    def command(output: str, *more: str) -> list[str]:
        model = f"openai:{serving.address}#{serving.folder / 'qwen2_audio'}"
        typed = ["run", "--model", model, "--mode", "valid_asr", "--annotation", "asr.json", "--output-dir", output]
        options = ["run.latency_clips=0", "run.batch_size_eval=2", "model.max_retries=0", "generate.max_new_tokens=12"]
        return [str(PROGRAMS / "audiolm-evaluator"), *typed, *more, "--options", *options]

    environment = {**os.environ, **OFFLINE}
    arguments = {"cwd": tmp_path, "env": environment, "text": True, "timeout": 240, "capture_output": True}
    whole = subprocess.run(command("whole"), **arguments)  # type: ignore[call-overload]
    assert whole.returncode == 0, whole.stderr
    with (tmp_path / "broken.log").open("w") as log:
        broken = subprocess.Popen(
            command("out", *workers, "--resume", "auto"), cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    while sum(path.read_bytes().count(b"\n") for path in (tmp_path / "out").rglob("*.jsonl")) < 5:
        assert broken.poll() is None, (tmp_path / "broken.log").read_text()
        time.sleep(0.01)
    serving.kill()
    assert broken.wait(120) == 4
    told = (tmp_path / "broken.log").read_text()
    assert f"Error: The server {serving.address} has no answer to 5 clips in a row. The last: " in told
    assert re.search(r"rows have no answer \(test.*\); \d more failed. To go on with what is left", told)
    assert "Traceback" not in told
    serving.start()
    again = subprocess.run(command("out", *workers, "--resume", "auto"), **arguments)  # type: ignore[call-overload]
    assert again.returncode == 0, again.stderr
    assert "Going on with" in again.stderr
    [before], [after] = (list((tmp_path / name / "valid_results").glob("*.csv")) for name in ("whole", "out"))
    assert after.read_bytes() == before.read_bytes()
    scores = [next((tmp_path / name).rglob("scores.json")).read_bytes() for name in ("whole", "out")]
    assert scores[0] == scores[1]
