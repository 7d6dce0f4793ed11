"""The web page: its flags, one visitor's session, and the whole of it in a browser on real clips with the nano model.

The browser test drives Debian's Chromium by Playwright, whose own browsers are not needed. It is left out where either
is missing.
"""

import asyncio
import csv
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from starlette.responses import PlainTextResponse

from salmonn.demo import history, spectrogram
from salmonn.demo import media as demo_media
from salmonn.demo import session as demo_session
from salmonn.demo.guard import LOGINS_A_MINUTE, ClosedPage
from salmonn.demo.session import CUT, NO_WORDS, WAITING, DemoSession, offered_tasks
from salmonn.errors import AudioError, PromptError, SalmonnError
from salmonn.inference.inference import SalmonnLM

TRAINER = Path(__file__).resolve().parents[1]
CONFIG = TRAINER / "configs" / "decode_config.yaml"
EXAMPLES = TRAINER / "examples"
AXE = TRAINER.parent / "tests" / "vendor" / "axe.min.js"
CANARY = "hf_" + "canary0" * 4
PASSWORD = "kim:swordfish-7741"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def load_command() -> Any:
    spec = importlib.util.spec_from_file_location("web_demo_command", TRAINER / "web_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def invoke(*arguments: str, **environment: str) -> Result:
    command: click.Command = load_command().main
    return CliRunner().invoke(command, ["--cfg-path", str(CONFIG), *arguments], env=environment)


def test_help_loads_neither_torch_nor_gradio() -> None:
    code = (
        "import sys, runpy; sys.argv = ['web_demo.py', '--help']\n"
        "try: runpy.run_path('web_demo.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'gradio', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TRAINER)
    assert done.stdout.endswith("[]\n")
    assert "--max-upload-mb" in done.stdout


def test_a_public_link_needs_a_password_and_a_password_a_form() -> None:
    result = invoke("--share")
    assert result.exit_code == 2
    assert "--share lets anybody in" in result.output
    for wrong in ("swordfish", "kim:", ":swordfish"):
        for result in (invoke("--password", wrong), invoke(AUDIOLM_DEMO_PASSWORD=wrong)):
            assert result.exit_code == 2
            assert "must have the form USER:PASSWORD" in result.output
            assert "swordfish" not in result.output


def test_configuration_errors_are_sentences() -> None:
    result = invoke("--options", "generate.num_beam=1")
    assert result.exit_code == 2
    assert "did you mean num_beams?" in result.output


def test_a_used_port_is_a_sentence() -> None:
    from salmonn.demo.server import launch

    class Page:
        def launch(self, **settings: Any) -> None:
            assert settings["server_name"] == "127.0.0.1"
            assert settings["share"] is False
            raise OSError("Cannot find empty port")

    with pytest.raises(SalmonnError, match=r"port 9527 of 127\.0\.0\.1 cannot be used"):
        launch(
            Page(), host="127.0.0.1", port=9527, share=False, auth=None, max_upload_mb=50, allowed=EXAMPLES,
            uploads=EXAMPLES,
        )  # fmt: skip


def test_a_session_shows_the_question_then_the_growing_answer(nano: SalmonnLM) -> None:
    session = DemoSession(nano, EXAMPLES / "speech_call_my_dentist.flac", longest=60)
    assert session.heard == "Heard: all 3.0 s."
    seen = list(session.ask("asr", "", nano.defaults))
    assert [message["content"] for message in seen[0]] == ["Speech: write down the words", WAITING]
    assert [message["content"] for message in seen[-1]] == [
        "Speech: write down the words",
        "call my dentist on wednesday morning",
    ]
    again = list(session.ask("QA", "Who <b>is</b> it?", nano.defaults))
    assert len(again[-1]) == 4
    assert again[-1][2]["content"] == "Question: answer about the clip: Who <b>is</b> it?"
    with pytest.raises(PromptError, match=r'^"Question: answer about the clip" needs a question: type one$'):
        list(session.ask("QA", "", nano.defaults))
    assert len(session.messages) == 4
    session.forget()
    assert session.messages == []


def test_a_task_is_asked_afresh_and_own_words_with_what_was_said(
    nano: SalmonnLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salmonn.inference.inference import Answer

    prompts: list[str] = []

    def stream(audio: object, prompt: str, settings: object = None) -> Iterator[str]:
        prompts.append(prompt)
        yield "so"
        return Answer(0, "so", 1, "stop")

    monkeypatch.setattr(nano, "stream", stream)
    session = DemoSession(nano, EXAMPLES / "sound_dog.flac", longest=60)
    for task, text in (("", "What?"), ("asr", ""), ("", "And then?")):
        list(session.ask(task, text, nano.defaults))
    assert ["USER" in prompt[4:] for prompt in prompts] == [False, False, True]
    assert "Recognize the speech" in prompts[1]
    assert prompts[2].startswith("USER: <Speech><SpeechHere></Speech> What?\nASSISTANT: so\nUSER: ")
    assert len(session.messages) == 6


def test_only_tasks_that_the_model_was_trained_with_are_offered(nano: SalmonnLM) -> None:
    assert offered_tasks(nano) == ["asr", "audiocaption_v2"]
    known, nano.model.trained_tasks = nano.model.trained_tasks, ()
    try:
        assert len(offered_tasks(nano)) == len(nano.prompts.wordings) > 20
    finally:
        nano.model.trained_tasks = known


@pytest.mark.parametrize("name", ["note.m4a", "note.webm"])
def test_recordings_of_phones_and_browsers_are_heard(nano: SalmonnLM, tmp_path: Path, name: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed (pip install av)")
    wave, rate = soundfile.read(EXAMPLES / "speech_call_my_dentist.flac", dtype="float32")
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream({"m4a": "aac", "webm": "libopus"}[name.partition(".")[2]], rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wave[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*av.AudioResampler(format=stream.format, layout="mono", rate=48_000).resample(frame), None]:
            container.mux(stream.encode(part))
    session = DemoSession(nano, tmp_path / name, longest=60)
    assert session.heard == "Heard: all 3.0 s."
    assert list(session.ask("asr", "", nano.defaults))[-1][-1]["content"] == "call my dentist on wednesday morning"
    with pytest.raises(AudioError, match=r"lasts 3\.0 s, more than the 2\.0 s"):
        DemoSession(nano, tmp_path / name, longest=2)


def test_without_the_library_containers_are_not_offered(
    nano: SalmonnLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_media, "media_is_read", lambda: False)
    monkeypatch.setattr(demo_session, "media_is_read", lambda: False)
    (tmp_path / "note.m4a").write_bytes(bytes(100))
    with pytest.raises(AudioError, match=r"The page takes WAV, FLAC, OGG, Opus and MP3\.$"):
        DemoSession(nano, tmp_path / "note.m4a", longest=60)


@pytest.mark.parametrize("name", ["note.m4a", "note.webm", "note.raw", "fast.wav", "\udcff.wav"])
def test_what_is_no_recording_is_a_sentence(nano: SalmonnLM, tmp_path: Path, name: str) -> None:
    header = bytearray((EXAMPLES / "sound_dog.flac").read_bytes()[:100])
    if name == "fast.wav":
        soundfile.write(tmp_path / name, np.zeros(1600, np.float32), 16_000)
        header = bytearray((tmp_path / name).read_bytes())
        header[24:28] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / name).write_bytes(header)
    with pytest.raises(AudioError, match="The page takes"):
        DemoSession(nano, tmp_path / name, longest=60)


def test_an_answer_says_when_it_is_cut_or_has_no_words(nano: SalmonnLM, monkeypatch: pytest.MonkeyPatch) -> None:
    from salmonn.inference.inference import Answer

    session = DemoSession(nano, EXAMPLES / "sound_dog.flac", longest=60)
    for answer, said in ((Answer(0, "a dog", 2, "length"), f"a dog {CUT}"), (Answer(0, "", 1, "stop"), NO_WORDS)):

        def stream(*_: object, answer: Answer = answer) -> Iterator[str]:
            yield answer.text
            return answer

        monkeypatch.setattr(nano, "stream", stream)
        assert list(session.ask("", "What?", nano.defaults))[-1][-1]["content"] == said


def test_a_file_that_is_no_audio_is_called_by_its_name_alone(nano: SalmonnLM, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("words", encoding="utf-8")
    with pytest.raises(AudioError, match=r"^audio file 'song\.wav' is text, not audio\. The page takes WAV, "):
        DemoSession(nano, tmp_path / "song.wav", longest=60)


def test_the_history_is_bounded_and_escaped() -> None:
    entries: list[history.Entry] = []
    for number in range(history.MOST_ENTRIES + 5):
        entries = history.extended(entries, history.Entry("<b>.wav", f"q{number}", '<script>alert("x")</script>'))
    assert len(entries) == history.MOST_ENTRIES
    assert entries[0].question == "q5"
    shown = history.table(entries)
    assert "<script" not in shown
    assert "<td>&lt;b&gt;.wav</td><td>q5</td>" in shown


def test_a_tone_is_a_line_at_its_frequency() -> None:
    times = np.arange(32_000) / 16_000
    levels = spectrogram.decibels(np.sin(2 * np.pi * 4000 * times).astype(np.float32))
    assert levels.shape[0] == spectrogram.WINDOW // 2
    assert levels.shape[1] <= spectrogram.WIDTH
    assert set(levels.argmax(axis=0)) == {spectrogram.WINDOW // 4}
    for length in (0, 1, spectrogram.WINDOW, 480_000):
        address = spectrogram.picture(np.zeros(length, np.float32))
        assert address.startswith("data:image/png;base64,iVBOR")
        assert len(address) < 200_000


class Server(NamedTuple):
    """A running web_demo.py."""

    url: str
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the command as a user would; greedy, so that answers grow."""
    folder = tmp_path_factory.mktemp("demo")
    options = ("--options", "generate.num_beams=1", "run.device=cpu")
    with running(folder, "--max-upload-mb", "2", *options) as found:
        yield found


class running:  # noqa: N801 - reads as a word in `with`
    """Runs web_demo.py on a free port until the block ends."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.server = Server(f"http://127.0.0.1:{port}", folder / "log.txt")
        variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        variables |= {"HF_TOKEN": CANARY, "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        self.temporary = folder
        with self.server.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(TRAINER / "web_demo.py"), "--cfg-path", str(CONFIG), "--port", str(port),
                 *arguments],
                env=variables | environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            )  # fmt: skip

    def __enter__(self) -> Server:
        deadline = time.monotonic() + 180
        while "open http" not in self.server.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"web_demo.py did not start: {self.server.log.read_text(encoding='utf-8')}")
            time.sleep(0.1)
        return self.server

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 143
        # What visitors sent is gone with the server.
        assert [path.name for path in self.temporary.iterdir() if path.name.startswith("audiolm-demo-")] == []


def fetch(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Ask over HTTP: -> status, body."""
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.slow
def test_the_server_tells_nothing_of_its_machine(server: Server) -> None:
    for page in ("/", "/config", "/gradio_api/info", "/theme.css"):
        status, body = fetch(server.url + page)
        assert status == 200
        for secret in (CANARY, str(TRAINER), str(server.log.parent), sys.prefix):
            assert secret.encode() not in body
    for path in ("/etc/passwd", str(CONFIG), str(TRAINER / "web_demo.py"), str(EXAMPLES / ".." / "web_demo.py")):
        status, body = fetch(f"{server.url}/gradio_api/file={path}")
        assert status in (403, 404)
        assert b"root:" not in body
        assert b"import" not in body
    assert CANARY not in server.log.read_text(encoding="utf-8")


UPLOAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\nwords\r\n--x--'
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "{url}"}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:9527"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Host": "x.gradio.live", "Origin": "https://x.gradio.live"}, 421),
    ],
)
def test_only_the_page_itself_may_send_files(server: Server, headers: dict[str, str], status: int) -> None:
    told = {name: value.format(url=server.url) for name, value in headers.items()}
    found, body = fetch(f"{server.url}/gradio_api/upload", UPLOAD, **FORM, **told)
    assert found == status
    assert status == 200 or b"evil" not in body.replace(b"'evil", b"").replace(b"'127.0.0.1.evil", b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", ["..", "%2e%2e", "..%2f..", "....//", "%252e%252e", "..\\\\..", "/", "file://", "~", "%00"]
)
@pytest.mark.parametrize("route", ["file=", "file/", "static/", "assets/", "component_server/", "../", "upload/"])
def test_no_way_leads_to_a_file_outside(server: Server, route: str, way: str) -> None:
    for target in ("etc/passwd", "web_demo.py"):
        status, body = fetch(f"{server.url}/gradio_api/{route}{urllib.parse.quote(str(EXAMPLES))}/{way}/{target}")
        assert status in (400, 403, 404, 405, 422)
        assert b"root:" not in body
        assert b"def main(" not in body


@pytest.mark.slow
def test_two_hundred_files_at_once_are_taken(server: Server) -> None:
    with ThreadPoolExecutor(32) as pool:
        sent = pool.map(lambda _: fetch(f"{server.url}/gradio_api/upload", UPLOAD, **FORM)[0], range(200))
        assert set(sent) == {200}
    assert fetch(f"{server.url}/")[0] == 200


class Recorder:
    """An application behind the guard that only counts."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await PlainTextResponse("ok")(scope, receive, send)


def ask(guard: ClosedPage, path: str, **headers: str) -> int:
    """POST to an application without a server -> the status."""
    sent: list[Any] = []
    names = {"host": "127.0.0.1:9527"} | headers
    scope = {
        "type": "http", "method": "POST", "path": path, "client": ("127.0.0.1", 1),
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(guard(scope, receive, send))
    return int(sent[0]["status"])


def test_a_password_cannot_be_guessed_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Recorder()
    guard = ClosedPage(app, public=set(), uploads=tmp_path, most_bytes=1)
    assert [ask(guard, "/login") for _ in range(LOGINS_A_MINUTE + 3)] == [*[200] * LOGINS_A_MINUTE, *[429] * 3]
    assert app.calls == LOGINS_A_MINUTE
    now = time.monotonic()
    monkeypatch.setattr("salmonn.demo.guard.time.monotonic", lambda: now + 61)
    assert ask(guard, "/login/") == 200


def test_uploads_are_bounded_by_amount(tmp_path: Path) -> None:
    guard = ClosedPage(Recorder(), public=set(), uploads=tmp_path, most_bytes=1000)
    for number in range(4):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "clip.wav").write_bytes(bytes(300))
        os.utime(tmp_path / f"{number}" / "clip.wav", (time.time() - 600 + number,) * 2)
    assert ask(guard, "/gradio_api/upload") == 200
    assert [path.parent.name for path in sorted(tmp_path.rglob("*.wav"))] == ["1", "2", "3"]
    (tmp_path / "young.wav").write_bytes(bytes(1000))
    assert ask(guard, "/gradio_api/upload") == 429
    assert [path.name for path in tmp_path.rglob("*.wav")] == ["young.wav"]


def test_the_public_link_is_let_in_by_its_name(tmp_path: Path) -> None:
    guard = ClosedPage(Recorder(), public={".gradio.live"}, uploads=tmp_path, most_bytes=1)
    assert ask(guard, "/x", host="a1.gradio.live", origin="https://a1.gradio.live") == 200
    assert ask(guard, "/x", origin="https://a1.gradio.live") == 200
    assert ask(guard, "/x", host="gradio.live.evil.example") == 421
    guard.public.clear()
    guard.public.add("a1.gradio.live")
    assert ask(guard, "/x", host="a2.gradio.live") == 421
    assert ask(guard, "/x", host="a1.gradio.live", origin="https://a2.gradio.live") == 403


@pytest.mark.slow
def test_a_file_that_is_too_large_is_refused(server: Server) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + bytes(3 << 20) + b"\r\n--x--"
    )
    status, _ = fetch(f"{server.url}/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 413


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A new browser with an empty profile; the page keeps the hosts that it asks in `hosts`."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=browser,
            args=list(FLAGS),
            viewport={"width": 1280, "height": 900},
        )
        opened = context.new_page()
        opened.set_default_timeout(30_000)
        opened.hosts = set()
        context.on(
            "request", lambda asked: opened.hosts.add(urlsplit(asked.url).hostname or urlsplit(asked.url).scheme)
        )
        opened.on("websocket", lambda socket: opened.hosts.add(urlsplit(socket.url).hostname))
        yield opened
        context.close()


# Keeps every text that the last answer has had.
WATCH = """turns => {
    window.texts = [];
    window.watcher?.disconnect();
    const look = () => {
        const all = document.querySelectorAll('#chat .bot.message');
        const text = all.length === turns ? all[all.length - 1].innerText.trim() : '';
        if (text && text !== window.texts.at(-1)) window.texts.push(text);
    };
    const everything = {subtree: true, childList: true, characterData: true};
    window.watcher = new MutationObserver(look);
    window.watcher.observe(document.querySelector('#chat'), everything);
}"""


class Visitor:
    """What a person does on the page."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked = 0

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#clip input[type=file]", str(path))

    def choose_task(self, title: str) -> None:
        self.page.locator("#task").get_by_role("radio", name=title, exact=True).check()

    def ask(self, *, turns: int) -> list[str]:
        """Press the button and wait until the conversation has so many turns: -> the texts that the answer has had."""
        self.asked += 1
        self.page.evaluate(WATCH, turns)
        self.page.click("#ask")
        self.page.wait_for_function(
            "([turns, waiting]) => {const all = [...document.querySelectorAll('#chat .bot.message')];"
            " return all.length === turns && all.at(-1).innerText.trim() !== waiting}",
            arg=[turns, WAITING],
        )
        self.settle()
        return [text for text in self.page.evaluate("window.texts") if text != WAITING]

    def settle(self) -> None:
        """Wait until the server has answered everything: the text stays the same for a while."""
        last, same = "", 0
        while same < 4:
            self.page.wait_for_timeout(150)
            now = self.page.inner_text("#chat")
            same, last = (same + 1, now) if now == last else (0, now)

    def notice(self, place: str) -> str:
        self.page.wait_for_selector(f"{place} p:visible")
        return str(self.page.inner_text(f"{place} p")).strip()

    def slider(self, name: str) -> Any:
        return self.page.locator(f"#{name} input[type=range]")


@pytest.mark.slow
def test_a_visit(server: Server, page: Any, tmp_path: Path) -> None:
    """A whole visit: nothing to ask about, garbage, a clip, a growing answer, a second turn, settings, a long clip."""
    visitor = Visitor(page)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#ask")

    page.click("#ask")
    assert visitor.notice("#notice").startswith("There is no clip yet")

    (tmp_path / "song.wav").write_text("<b>words</b>", encoding="utf-8")
    visitor.upload(tmp_path / "song.wav")
    sentence = visitor.notice("#clip-notice")
    assert sentence.startswith("Audio file 'song.wav' is text, not audio.")
    assert str(server.log.parent) not in sentence

    visitor.upload(EXAMPLES / "mixture_bell_over_rain.flac")
    page.wait_for_selector("#heard p:visible")
    assert page.inner_text("#heard").strip() == "Heard: all 5.0 s."
    assert not page.is_visible("#clip-notice")
    page.wait_for_selector("#spectrogram img:visible")
    words = page.get_attribute("#spectrogram img", "alt")
    assert words == "Spectrogram: 0 to 5.0 s from left to right, 0 to 8 kHz from below"
    assert page.evaluate("document.querySelector('#spectrogram img').naturalWidth") == spectrogram.WIDTH
    check_follow(page)
    check_contrast(page)

    visitor.choose_task("Sound: describe what is heard")
    seen = visitor.ask(turns=1)
    assert seen[-1].startswith("a bell is ringing while rain is falling")
    assert all(seen[-1].startswith(text) for text in seen)

    visitor.choose_task("Your own words")
    page.wait_for_selector("#text textarea:visible, #text input:visible")
    page.click("#ask")
    assert visitor.notice("#notice") == "There is no question: type one, or choose a task."
    page.locator("#text textarea, #text input").first.fill("What is <i>it</i>?")
    visitor.ask(turns=2)
    chat = page.inner_text("#chat")
    assert chat.index("a bell is ringing") < chat.index("What is <i>it</i>?")

    check_settings(visitor)
    check_growth(visitor)
    check_narrow(page)
    check_example(visitor)
    check_history(visitor, tmp_path)
    check_contrast(page)
    page.evaluate("document.body.classList.add('dark')")
    check_contrast(page)
    page.evaluate("document.body.classList.remove('dark')")
    soundfile.write(tmp_path / "long.wav", np.full(16_000 * 42, 0.1, np.float32), 16_000)
    page.click("#new")
    page.wait_for_selector("#heard p", state="hidden")
    visitor.upload(tmp_path / "long.wav")
    page.wait_for_selector("#heard p:visible")
    assert page.inner_text("#heard").strip() == "Heard: the first 10 s of 42 s."
    assert page.locator("#chat .bot.message").count() == 0

    assert page.hosts <= {"127.0.0.1", "data", "blob"}
    assert problems == []
    assert "Traceback" not in server.log.read_text(encoding="utf-8")


def check_follow(page: Any) -> None:
    """A line goes over the spectrogram while the clip is played, and stays where it is stopped."""
    cursor = page.locator("#spectrogram .cursor")
    assert cursor.is_hidden()
    page.click("#clip button[aria-label=Play]")
    places = []
    for _ in range(3):
        page.wait_for_timeout(200)
        box, picture = cursor.bounding_box(), page.locator("#spectrogram img").bounding_box()
        places.append((box["x"] + box["width"] / 2 - picture["x"]) / picture["width"])
    assert 0 <= places[0] < places[1] < places[2] < 0.6
    page.click("#clip button[aria-label=Pause]")
    page.wait_for_timeout(100)
    stopped = cursor.get_attribute("style")
    page.wait_for_timeout(200)
    assert cursor.get_attribute("style") == stopped


def check_contrast(page: Any) -> None:
    """By axe-core, WCAG 2.2 A and AA; the name of Gradio's button for the speed is not ours to change."""
    # A colour on its way to another is neither.
    page.add_style_tag(content="* { transition: none !important; }")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'],"
        " rules: {'label-content-name-mismatch': {enabled: false}}}).then(told => told.violations)"
    )
    assert [(each["id"], node["html"]) for each in found for node in each["nodes"]] == []


def check_settings(visitor: Visitor) -> None:
    """Only the sliders that count can be moved, and the length is kept to."""
    page = visitor.page
    page.click("#settings > button")
    page.wait_for_selector("#mode:visible")
    expected = {
        "Greedy": {"beams": False, "temperature": False, "top-p": False, "length": True},
        "Sampling": {"beams": False, "temperature": True, "top-p": True, "length": True},
        "Beam search": {"beams": True, "temperature": False, "top-p": False, "length": True},
    }
    for mode, sliders in expected.items():
        page.get_by_role("radio", name=mode).check()
        for name, enabled in sliders.items():
            page.wait_for_selector(f"#{name} input[type=range]:{'enabled' if enabled else 'disabled'}")
    assert "at once" in page.inner_text("#mode-effect")
    visitor.choose_task("Sound: describe what is heard")
    visitor.slider("length").fill("2")
    seen = visitor.ask(turns=3)
    assert seen[-1].endswith(CUT)
    assert len(seen[-1]) < 30 + len(CUT)
    # At once: nothing but the whole answer, before and after the remark that it is cut.
    assert set(seen) <= {seen[-1], seen[-1].removesuffix(CUT).strip()}


def check_growth(visitor: Visitor) -> None:
    """A long answer, drawn at random, is seen before it is complete; the clip outlives its conversation."""
    page = visitor.page
    page.click("#chat button[aria-label=Clear]")
    page.wait_for_selector("#chat .bot.message", state="detached")
    page.get_by_role("radio", name="Sampling").check()
    page.wait_for_selector("#temperature input[type=range]:enabled")
    for name, value in (("temperature", "2"), ("top-p", "1"), ("length", "300")):
        visitor.slider(name).fill(value)
    seen: list[str] = []
    # What is drawn may end at once; that it does so four times is not seen in ten thousand visits.
    for turn in range(1, 5):
        seen = visitor.ask(turns=turn)
        if len(seen) > 2:
            break
    assert len(seen) > 2
    whole = [text for text in seen if CUT not in text]
    assert all(later.startswith(earlier) for earlier, later in pairwise(whole))


def check_example(visitor: Visitor) -> None:
    """An example brings the task that suits it."""
    page = visitor.page
    for title, task in (("Speech: buy tickets", "Speech: write down the words"), ("Sound: dog", "Sound: describe")):
        page.get_by_role("button", name=title).click()
        chosen = "document.querySelector('#task label:has(:checked)').innerText.trim()"
        page.wait_for_function(f"{chosen}.startsWith({task!r})")


def check_history(visitor: Visitor, folder: Path) -> None:
    """All answers are in a table, also those of conversations that were cleared, and the browser saves it as a CSV."""
    page = visitor.page
    page.click("#all-answers > button")
    page.wait_for_selector("#history tbody tr:visible")
    page.evaluate("document.querySelector('#history td').textContent = 'a, \"b\"'")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "answers.csv"
    download.value.save_as(folder / "answers.csv")
    with (folder / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(history.HEADINGS)
    assert rows[1][:2] == ['a, "b"', "Sound: describe what is heard"]
    assert rows[1][2].startswith("a bell is ringing while rain is falling")
    assert rows[2][1] == "What is <i>it</i>?"
    assert len(rows) == 1 + visitor.asked


def check_narrow(page: Any) -> None:
    """On a telephone nothing is wider than the screen, fingers find what they touch, and asking comes first."""
    page.set_viewport_size({"width": 390, "height": 740})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    places = {name: page.locator(f"#{name}").bounding_box() for name in ("task", "ask", "new", "chat")}
    assert places["task"]["y"] < places["ask"]["y"] < places["chat"]["y"]
    for button in [page.locator("#ask"), page.locator("#new"), *page.locator("#examples button").all()]:
        assert button.bounding_box()["height"] >= 44
    page.screenshot(
        path=os.environ["AUDIOLM_SHOTS"] + "/phone.png", full_page=True
    ) if "AUDIOLM_SHOTS" in os.environ else None
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.slow
def test_a_password_is_asked_for_and_never_logged(tmp_path: Path) -> None:
    with running(tmp_path, "--options", "run.device=cpu", AUDIOLM_DEMO_PASSWORD=PASSWORD) as found:
        assert fetch(f"{found.url}/config")[0] == 401
        assert fetch(f"{found.url}/gradio_api/upload", b"")[0] == 401
        body = "username=kim&password={}".format
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert fetch(f"{found.url}/login", body("guess").encode(), **kind)[0] == 400
        assert fetch(f"{found.url}/login", body("swordfish-7741").encode(), **kind)[0] == 200
        assert "swordfish" not in found.log.read_text(encoding="utf-8")
