"""`openai:http://HOST/v1#MODEL` against a fake server: what is sent, what each kind of reply becomes, retries, ends."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import MODEL, Asked, FakeServer, Said, chat, failure, served
from fake_site import WORDS, make_site

from evaluator.conformance import check_model
from evaluator.errors import ConfigError, ServerError
from evaluator.model import Answer, Request
from evaluator.models.choose import ModelChoice
from evaluator.models.servers.package import ServerPackage
from evaluator.models.servers.wav import wav_bytes

CONFIG: dict[str, dict[str, Any]] = {"model": {}, "generate": {}, "datasets": {}, "run": {}}
PROGRAM = str(Path(sys.executable).with_name("audiolm-evaluator"))
QUICK = {"max_retries": 2, "timeout_s": 10.0}


@pytest.fixture(autouse=True)
def _no_key_or_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # The client waits half a second before its first retry, and longer before the next.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def clips(number: int = 5) -> list[Request]:
    return [Request(index, np.full(1600 + 100 * index, 0.25, dtype=np.float32), "asr", "") for index in range(number)]


def config(**sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {**values, **sections.get(name, {})} for name, values in CONFIG.items()}


def asked(
    server: FakeServer, requests: Sequence[Request], *, model: Mapping[str, Any] = QUICK, **sections: Mapping[str, Any]
) -> list[Answer]:
    """The answers in the requests' order."""
    package = ServerPackage(f"{server.address}#{MODEL}", None)
    answers = package.load_model(config(model=model, **sections), "auto").generate(iter(requests))
    return sorted(answers, key=lambda answer: answer.index)


def test_a_chat_has_the_clip_the_prompt_and_the_settings() -> None:
    with served() as server:
        answers = asked(server, clips(2), run={"seed": 7}, generate={"max_new_tokens": 30, "extra": {"top_k": 1}})
    assert answers == [Answer(0, "clip of 1600 samples", 3, "stop"), Answer(1, "clip of 1700 samples", 3, "stop")]
    sent = server.asked[0].fields
    audio, text = sent["messages"][0]["content"]
    assert audio["type"] == "input_audio"
    assert audio["input_audio"]["format"] == "wav"
    assert text["text"].startswith("Transcribe the speech.")
    told = {name: value for name, value in sent.items() if name != "messages"}
    assert told == {"model": MODEL, "max_tokens": 30, "temperature": 0, "seed": 7, "top_k": 1}
    assert set(server.asked[0].samples) == {8192}


def test_the_other_ways_to_ask() -> None:
    with served() as server:
        [answer] = asked(
            server,
            clips(1),
            model={"ask": "audio_url", "token_limit": "max_completion_tokens"},
            generate={"temperature": "default", "seed": "default", "top_p": 0.5},
        )
        assert answer.text == "clip of 1600 samples"
        server.say = lambda asked: Said(json.dumps({"text": f" {asked.heard}"}).encode())
        [answer] = asked(server, clips(1), model={"ask": "transcriptions", "language": "en"})
        assert answer == Answer(0, "clip of 1600 samples", 0, "stop")
    first, second = (
        {name: value for name, value in each.fields.items() if name not in ("messages", "file")}
        for each in server.asked
    )
    assert first == {"model": MODEL, "max_completion_tokens": 200, "top_p": 0.5}
    assert second == {"model": MODEL, "temperature": "0.0", "language": "en"}


def test_a_prompt_of_ones_own_is_sent_and_part_of_what_a_run_is(tmp_path: Path) -> None:
    book = tmp_path / "책.yaml"
    book.write_text('asr: "받아쓰세요."\nQA: "{question} 한 단어로."\n', encoding="utf-8")
    with served() as server:
        plain, own = (ServerPackage(f"{server.address}#{MODEL}", prompts) for prompts in (None, book))
        assert own.tasks(config()) == {"asr": False, "QA": True}
        assert plain.fingerprints(config())["model.prompts"] != own.fingerprints(config())["model.prompts"]
        [clip] = clips(1)
        requests = [clip, clip._replace(index=1, task="QA", question="누구?")]
        list(own.load_model(config(run={"batch_size_eval": 1}), "auto").generate(iter(requests)))
    assert [each.fields["messages"][0]["content"][1]["text"] for each in server.asked] == [
        "받아쓰세요.",
        "누구? 한 단어로.",
    ]


def test_a_clip_of_16_bits_is_sent_as_it_was() -> None:
    samples = np.arange(-32768, 32768, 7, dtype=np.int16)
    assert wav_bytes((samples / 32768).astype(np.float32), 16000)[44:] == samples.astype("<i2").tobytes()
    loud = np.array([-3.0, 3.0], dtype=np.float32)
    assert np.frombuffer(wav_bytes(loud, 16000)[44:], "<i2").tolist() == [-32768, 32767]


REPLIES: list[tuple[str, Said, tuple[str, str, str | None]]] = [
    ("a text", chat("yes"), ("yes", "stop", None)),
    ("empty", chat(""), ("", "stop", None)),
    ("null", chat(None), ("", "stop", None)),
    ("in parts", Said(chat("x").body.replace(b'"x"', b'[{"type": "text", "text": "yes"}]')), ("yes", "stop", None)),
    ("cut off", chat("yes and", finish="length"), ("yes and", "length", None)),
    ("no reason to end", chat("yes", finish=None), ("yes", "stop", None)),
    ("a refusal", chat(None, refusal="I will not."), ("I will not.", "refusal", None)),
    ("a filter", chat(None, finish="content_filter"), ("", "refusal", None)),
    ("a filter after words", chat("yes", finish="content_filter"), ("yes", "refusal", None)),
    ("broken off", chat("y", finish="abort"), ("", "error", "the server broke the answer off: .* is 'abort'")),
    ("no choices", Said(b'{"choices": []}'), ("", "error", "the reply has no choices with a message: .*")),
    ("null choices", Said(b'{"choices": null}'), ("", "error", "the reply has no choices .*")),
    ("choices of another kind", Said(b'{"choices": [3]}'), ("", "error", "the reply has no choices .*")),
    ("a number", chat(3), ("", "error", "the message's content is 3, not a text")),  # type: ignore[arg-type]
    ("no object", Said(b"[1, 2]"), ("", "error", r"the reply is no object: '\[1, 2\]'")),
    ("nothing", Said(b""), ("", "error", "the reply is not JSON: it is empty")),
    ("HTML", Said(b"<html>\n<b>Login</b>", headers={"Content-Type": "text/html"}),
     ("", "error", "the reply is not JSON: '<html> <b>Login</b>'")),
    ("nested without end", Said(b"[" * 100_000), ("", "error", "the reply is not JSON: .*")),
    ("an error with status 200", Said(b'{"error": {"message": "overloaded"}}'),
     ("", "error", "the server says: overloaded")),
    ("huge", Said(b'{"choices": "' + b"x" * (5 << 20)), ("", "error", "the reply is larger than 4 MiB")),
    ("another encoding", Said(b"not gzip", headers={"Content-Encoding": "gzip"}), ("", "error", r".*\(3 attempts\)")),
    ("a clip that is refused", failure(400, "too\nlong"), ("", "error", r"HTTP 400: too\\nlong")),
    ("an answer of no API", Said(b"gone fishing", 503), ("", "error", r"HTTP 503: 'gone fishing' \(3 attempts\)")),
    ("the end of the connection", Said(b"", drop=True), ("", "error", r".+Error: .+ \(3 attempts\)")),
    ("too late", Said(b"", seconds=0.5), ("", "error", r"no answer within 0.2 s \(3 attempts\)")),
    ("a drop at a time", Said(b"x" * 100, drip=0.05), ("", "error", r"no answer within 0.2 s \(3 attempts\)")),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_what_becomes_of_a_reply(said: Said, expected: tuple[str, str, str | None]) -> None:
    timeout = 0.2 if said.seconds or said.drip else 10.0
    with served(lambda asked: said) as server:
        [answer] = asked(server, clips(1), model={"max_retries": 2, "timeout_s": timeout})
    text, state, reason = expected
    assert (answer.text, answer.finish_reason) == (text, state)
    assert (answer.error is None) == (reason is None)
    if reason is not None:
        assert re.fullmatch(reason, answer.error or ""), answer.error


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    def say(asked: Asked) -> Said:
        return failure(429, "slowly", Retry_After="0.3") if asked.number == 0 else chat("yes")

    with served(say) as server:
        begin = time.monotonic()
        [answer] = asked(server, clips(1))
        assert time.monotonic() - begin > 0.3
    assert answer.text == "yes"
    assert [each.headers["x-stainless-retry-count"] for each in server.asked] == ["0", "1"]


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_no_more_clips_at_a_time_than_were_asked_for(at_once: int) -> None:
    def say(asked: Asked) -> Said:
        # The first come last.
        return Said(chat(asked.heard).body, seconds=0.02 * (10 - asked.number % 10))

    pulled = []

    def stream() -> Any:
        for request in clips(20):
            pulled.append(request.index)
            yield request

    with served(say) as server:
        package = ServerPackage(f"{server.address}#{MODEL}", None)
        model = package.load_model(config(run={"batch_size_eval": at_once}), "cpu")
        answers = []
        for answer in model.generate(stream()):
            answers.append(answer)
            assert len(pulled) - len(answers) < at_once
    assert server.most == at_once
    assert {each.index: each.text for each in answers} == {
        each.index: f"clip of {len(each.audio)} samples" for each in clips(20)
    }


def test_the_contract_is_kept_and_a_load_that_changes_answers_is_seen() -> None:
    def say(asked: Asked) -> Said:
        time.sleep(0.02)
        # A server whose batches change answers.
        return chat(f"{asked.heard}{server.now if fickle else ''}")

    fickle = False
    with served(say) as server:
        model = ServerPackage(f"{server.address}#{MODEL}", None).load_model(config(), "auto")
        checks = {check.name: check for check in check_model(model, {"asr": False})}
        assert [check for check in checks.values() if not check.passed] == []
        assert checks["under load"].detail == "0 of 16 rows differ between 1 and 8 at once"
        fickle = True
        [load] = [check for check in check_model(model, {"asr": False}) if check.name == "under load"]
    assert not load.passed
    assert re.match(r"1[0-9] of 16 rows differ between 1 and 8 at once, the first at index \d+: ", load.detail)


def test_a_server_that_says_the_same_of_all_shows_nothing_under_load() -> None:
    with served(lambda asked: chat("hm")) as server:
        model = ServerPackage(f"{server.address}#{MODEL}", None).load_model(config(), "auto")
        [load] = [check for check in check_model(model, {"asr": False}) if check.name == "under load"]
    assert load.detail == "0 of 16 rows differ between 1 and 8 at once, and all say 'hm'"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (failure(401, "no"), r"takes no such request: HTTP 401: no. The key comes from the environment variable "
                             r"OPENAI_API_KEY, which is not set."),
        (failure(404, "no model"), r"takes no such request: HTTP 404: no model. Addresses end in /v1, as a rule. The "
                                   r"server lists fake/listener."),
        (failure(500, "broken"), r"has no answer to 5 clips in a row. The last: HTTP 500: broken \(3 attempts\)."),
        (failure(400, "what is audio?"), r"answers none of 17 clips. The last: HTTP 400: what is audio\?."),
    ],
    ids=["401", "404", "500", "400"],
)  # fmt: skip
def test_a_server_that_answers_nobody_ends_the_run(said: Said, message: str) -> None:
    with served(lambda asked: said) as server, pytest.raises(ServerError, match=message):
        asked(server, clips(40), run={"batch_size_eval": 2})
    assert len(server.asked) < 40


def test_answers_between_failures_keep_a_run_going() -> None:
    def say(asked: Asked) -> Said:
        return chat(asked.heard) if len(asked.samples) % 400 == 0 else failure(500, "broken")

    with served(say) as server:
        answers = asked(server, clips(30), model={"max_retries": 0}, run={"batch_size_eval": 1})
    assert [answer.error is None for answer in answers] == [index % 4 == 0 for index in range(30)]


async def _others() -> int:
    """How many tasks the loop has beside this one, when those that were cancelled have ended."""
    await asyncio.sleep(0.1)
    return len(asyncio.all_tasks()) - 1


def test_a_run_that_ends_early_leaves_nothing_asked() -> None:
    begin = time.monotonic()
    with served(lambda asked: chat("yes") if asked.number == 1 else Said(b"", seconds=30)) as server:
        model: Any = ServerPackage(f"{server.address}#{MODEL}", None).load_model(config(), "auto")
        answers = model.generate(iter(clips(3)))
        assert next(answers).text == "yes"
        answers.close()
        closing = asyncio.run_coroutine_threadsafe(_others(), model._loop)
        assert closing.result(5) == 0
    assert time.monotonic() - begin < 10


WRONG = [
    ("openai:gpt-audio", r"openai:gpt-audio: expected openai:http://HOST/v1#MODEL, an address with http"),
    ("openai:http://localhost:8000/v1", r"what the server calls the model follows #"),
    ("openai:http://localhost:8000/v1#", r"what the server calls the model follows #"),
    ("openai:http://localhost:port/v1#m", r"expected openai:http://HOST/v1#MODEL, an address"),
    ("openai:http://#m", r"expected openai:http://HOST/v1#MODEL, an address"),
    ("openai:ftp://localhost/v1#m", r"expected openai:http://HOST/v1#MODEL, an address"),
    ("openai:", r"expected openai:http://HOST/v1#MODEL"),
]


@pytest.mark.parametrize(("typed", "message"), WRONG)
def test_an_address_that_is_none(typed: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelChoice(typed).provider()


@pytest.mark.parametrize(
    "typed", ["http://me:canary99@host/v1#m", "http://host/v1?key=canary99#m", "http://h:canary99@#m"]
)
def test_a_key_in_an_address_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(ConfigError, match="A key is read from the environment variable") as caught:
        ModelChoice(f"openai:{typed}").provider()
    assert "canary" not in str(caught.value)


def test_options_of_others_are_refused() -> None:
    with pytest.raises(ConfigError, match="--trust-remote-code: does not belong to openai: models"):
        ModelChoice("openai:http://localhost/v1#m", trust_remote_code=True).provider()


def test_settings_that_nobody_knows_are_named_and_a_key_is_not_shown() -> None:
    package = ServerPackage("http://localhost:1/v1#m", None)
    found = package.check_config(
        config(
            model={"ask": "shout", "timeout": 3, "key_variable": "sk-canary99"},
            generate={"max_new_tokens": 0, "temperature": "hot", "top_k": 3},
            run={"sede": 3},
        )
    )
    assert [key for key, _ in found] == [
        "model.ask", "model.key_variable", "model.timeout", "generate.max_new_tokens", "generate.temperature",
        "generate.top_k", "run.sede",
    ]  # fmt: skip
    assert "canary" not in str(found)


def test_a_key_that_is_named_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ServerPackage("http://localhost:1/v1#m", None)
    with pytest.raises(ConfigError, match="variable MY_KEY is not set"):
        package.load_model(config(model={"key_variable": "MY_KEY"}), "cpu")
    monkeypatch.setenv("MY_KEY", "canary 99")
    with pytest.raises(ConfigError, match="MY_KEY holds characters that no key has") as caught:
        package.load_model(config(model={"key_variable": "MY_KEY"}), "cpu")
    assert "canary" not in str(caught.value)


def test_the_key_is_sent_and_a_key_in_clear_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as server:
        asked(server, clips(1))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary99")
        asked(server, clips(1))
    assert [each.headers["authorization"] for each in server.asked] == ["Bearer EMPTY", "Bearer sk-canary99"]
    assert ServerPackage(f"{server.address}#m", None).notices(config()) == []
    [(key, notice)] = ServerPackage("http://example.com/v1#m", None).notices(config())
    assert (key, notice) == (
        "model.key_variable", "is sent to http://example.com/v1 without encryption: https:// encrypts it"
    )  # fmt: skip


def test_nobody_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        package = ServerPackage(f"{address}#m", None)
        with pytest.raises(ConfigError, match=r"the server does not answer: ConnectionRefusedError: .*\(2 attempts\)$"):
            package.check_parts(config())
        assert package.fingerprints(config())["model.served"] == ""
        monkeypatch.setenv("HTTP_PROXY", address)
        with pytest.raises(ConfigError, match=r"through the proxy of HTTP_PROXY \(NO_PROXY leaves hosts out\)"):
            ServerPackage("http://example.com/v1#m", None).check_parts(config())


def test_what_the_server_says_of_its_model_is_kept() -> None:
    with served() as server:
        package = ServerPackage(f"{server.address}#{MODEL}", None)
        model: Any = package.load_model(config(), "auto")
        assert package.fingerprints(config())["model.served"] == f"id={MODEL}, owned_by=us"
        assert model.served == {"id": MODEL, "owned_by": "us", "created": 1}
        list(model.generate(clips(2)))
        assert model.served["system_fingerprint"] == "fp_1"
        for said in (failure(404, "Not Found"), Said(b"<html>"), Said(b'{"data": 3}'), Said(b'{"data": [3, {}]}')):
            server.models = said
            silent = ServerPackage(f"{server.address}#{MODEL}", None)
            assert silent.fingerprints(config())["model.served"] == ""
            assert silent.load_model(config(), "auto").served == {}  # type: ignore[attr-defined]


def test_a_key_that_a_message_is_cut_in_leaves_no_half(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-Canary-9f3b27d1" * 3
    monkeypatch.setenv("OPENAI_API_KEY", key)
    replies = [
        failure(400, "x" * 180 + key),
        Said(b"<" + b"x" * 100 + key.encode()),
        chat("", finish="y" * 50 + key),
        Said(chat("yes").body.replace(b"fp_1", b"f" * 90 + key.encode())),
    ]
    with served(lambda asked: replies[asked.number]) as server:
        server.models = Said(json.dumps({"data": [{"id": MODEL, "root": "r" * 190 + key}]}).encode())
        model: Any = ServerPackage(f"{server.address}#{MODEL}", None).load_model(config(run={"batch_size_eval": 1}), "")
        told = [str(answer) for answer in model.generate(iter(clips(4)))]
    assert [text for text in (*told, str(model.served)) if "sk-" in text] == []
    assert all("***" in text for text in (*told[:3], str(model.served)))


def test_without_the_client_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.extras._is_there", lambda name: name != "openai")
    with pytest.raises(ConfigError, match=re.escape("pip install 'audiolm-evaluator[openai]'")):
        ServerPackage("http://localhost:1/v1#m", None).check_parts(config())


def command(*options: str) -> list[str]:
    typed = "run --mode valid_asr --annotation asr.json --output-dir out"
    settings = ["--options", "datasets.prefix=wavs", "run.latency_clips=0", "model.max_retries=0", *options]
    return [PROGRAM, *typed.split(), *settings]


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*command(*arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def answer_by_length(asked: Asked) -> Said:
    """The text of the site's clip, told by its length."""
    return chat(WORDS[(len(asked.samples) - 16000) // 1000])


def test_the_four_states_are_counted_and_named(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    replies = [chat("the cat sat"), chat(None, refusal="I will not."), chat(""), chat("birds", finish="length")]

    def say(asked: Asked) -> Said:
        return [*replies, failure(400, "no")][(len(asked.samples) - 16000) // 1000]

    with served(say) as server:
        ended = run(site.folder, "--model", f"openai:{server.address}#{MODEL}")
    assert ended.returncode == 1, ended.stderr
    lines = [line.split(None, 1) for line in ended.stdout.splitlines()]
    told = dict(line for line in lines if len(line) == 2)
    assert (told["failed"], told["empty"], told["refused"]) == ("1", "1", "1")
    assert "hit max length  1" in ended.stdout
    assert "test0004: HTTP 400: no" in ended.stdout
    assert told["answers"] == "1 hit the token limit, 1 empty, 1 refuse, 1 failed"
    [folder] = [path for path in (site.folder / "out/valid_results").iterdir() if path.is_dir()]
    record = json.loads((folder / "run.json").read_text())
    assert record["counts"] == {"rows": 5, "failed": 1, "empty": 1, "cut": 0, "hit_max_length": 1, "refused": 1}
    assert record["processes"][0]["served"] == {
        "id": MODEL, "owned_by": "us", "created": 1, "system_fingerprint": "fp_1"
    }  # fmt: skip
    rates = json.loads((folder / "scores.json").read_text())["details"]["diagnoses"]["rates"]
    assert {name: each["ids"] for name, each in rates.items()} == {
        "token_limit": ["test0003"], "empty": ["test0002"], "refusal": ["test0001"], "failed": ["test0004"],
    }  # fmt: skip
    typed = [PROGRAM, "score", "--annotation", "asr.json", "--predictions", str(folder)]
    scored = subprocess.run(typed, cwd=site.folder, capture_output=True, text=True, timeout=120)
    assert "1 hit the token limit, 1 empty, 1 refuse, 1 failed" in scored.stdout, scored.stdout + scored.stderr


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["here", "in workers"])
def test_a_server_that_dies_in_flight_and_comes_back(tmp_path: Path, workers: Sequence[str]) -> None:
    site = make_site(tmp_path)
    whole = tmp_path / "whole"
    with served(answer_by_length) as server:
        port = server.server_address[1]
        model = ["--model", f"openai:{server.address}#{MODEL}"]
        unbroken = run(site.folder, *model, "--output-dir", str(whole))
        assert unbroken.returncode == 0, unbroken.stderr

    def dying(asked: Asked) -> Said:
        return answer_by_length(asked) if asked.number < 2 else Said(b"", drop=True)

    options = [*model, *workers, "--resume", "auto"]
    with served(dying, port):
        broken = run(site.folder, "run.max_failures=1", *options)
    assert broken.returncode == 1, broken.stderr
    assert "row(s) have no answer, and run.max_failures is 1." in broken.stderr
    with served(answer_by_length, port) as server:
        again = run(site.folder, "run.max_failures=1", *options)
        assert 0 < len(server.asked) < 5
    assert again.returncode == 0, again.stderr
    [csv] = (site.folder / "out/valid_results").glob("*.csv")
    [expected] = (whole / "valid_results").glob("*.csv")
    assert csv.read_bytes() == expected.read_bytes()


def test_ctrl_c_waits_for_no_server(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with served(lambda asked: Said(b"", seconds=20)) as server:
        typed = command("--model", f"openai:{server.address}#{MODEL}")
        running = subprocess.Popen(typed, cwd=site.folder, stderr=subprocess.PIPE, text=True)
        while not server.asked:
            assert running.poll() is None
            time.sleep(0.05)
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=20)[1]
        assert time.monotonic() - begin < 10
    assert running.returncode == 130
    assert "Interrupted." in told
    assert "Traceback" not in told


def test_a_failed_clip_is_in_the_journal_and_asked_again(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with served(lambda asked: failure(500, "no") if len(asked.samples) == 18000 else answer_by_length(asked)) as server:
        model = ["--model", f"openai:{server.address}#{MODEL}"]
        first = run(site.folder, *model)
        assert first.returncode == 1, first.stderr
        [folder] = [path for path in (site.folder / "out/valid_results").iterdir() if path.is_dir()]
        rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        assert [row["error"] for row in rows] == [None, None, "HTTP 500: no", None, None]
        server.say = answer_by_length
        before = len(server.asked)
        again = run(site.folder, *model, "--resume", "auto")
        assert again.returncode == 0, again.stderr
        assert len(server.asked) == before + 1
        assert "this one starts anew" in run(site.folder, *model, "--resume", "auto").stderr
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == WORDS


@pytest.mark.slow
def test_another_served_model_is_another_run(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with served(lambda asked: failure(500, "no") if len(asked.samples) == 18000 else answer_by_length(asked)) as server:
        model = ["--model", f"openai:{server.address}#{MODEL}"]
        run(site.folder, *model)
        [folder] = [path for path in (site.folder / "out/valid_results").iterdir() if path.is_dir()]
        assert (
            json.loads((folder / "run.json").read_text())["model_files"]["model.served"] == f"id={MODEL}, owned_by=us"
        )
        entry = {"id": MODEL, "owned_by": "us", "created": 2}
        server.models = Said(json.dumps({"data": [entry]}).encode())
        patient = ("model.timeout_s=50", "model.max_retries=1", "model.key_variable=MY_KEY")
        again = run(site.folder, *patient, *model, "--resume", str(folder), MY_KEY="sk-another")
        assert "cannot be resumed" not in again.stderr
        assert server.asked[-1].headers["authorization"] == "Bearer sk-another"
        server.models = Said(json.dumps({"data": [{**entry, "root": "other/weights"}]}).encode())
        refused = run(site.folder, *model, "--resume", str(folder))
        assert "cannot be resumed: model.served differ(s)" in refused.stderr
        refused = run(site.folder, *model, "--resume", str(folder), "--options", "generate.max_new_tokens=7")
        assert "configuration" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "MY_SERVERS_KEY"])
def test_the_key_is_in_no_file_and_no_message(tmp_path: Path, variable: str) -> None:
    site = make_site(tmp_path)
    canary = "sk-Canary-9f3b27d1"

    def echo(asked: Asked) -> Said:
        key = asked.headers["authorization"].removeprefix("Bearer ")
        assert key == canary
        place = (len(asked.samples) - 16000) // 1000
        replies = [
            chat(f"you are {key}"),
            failure(400, f"bad key {key}", X_Key=key),
            failure(500, key),
            chat(None, refusal=f"not for {key}"),
            Said(f"<html>{key}".encode()),
        ]
        return replies[place]

    def refusing(asked: Asked) -> Said:
        return failure(401, f"Incorrect API key provided: {asked.headers['authorization']}")

    told = []
    named = ["model.key_variable=" + variable] if variable != "OPENAI_API_KEY" else []
    for say, workers in ((echo, []), (echo, ["--workers", "1"]), (refusing, []), (refusing, ["--workers", "1"])):
        with served(say) as server:
            server.models = Said(json.dumps({"data": [{"id": MODEL, "owned_by": canary}]}).encode())
            model = ["--model", f"openai:{server.address}#{MODEL}"]
            ended = run(site.folder, *named, *model, *workers, **{variable: canary, "OPENAI_LOG": "debug"})
            assert server.asked, ended.stderr
            told.append(ended.stdout + ended.stderr)
            server.models = failure(401, f"no such key: {canary}")
            early = run(site.folder, *named, *model, **{variable: canary})
            assert early.returncode == 2
            assert "HTTP 401: no such key: ***" in early.stderr
            told.append(early.stdout + early.stderr)
    assert "takes no such request: HTTP 401: Incorrect API key provided: Bearer ***" in told[4]
    assert "test0001: HTTP 400: bad key ***" in told[0]
    assert not any(canary in text for text in told)
    written = [path for path in site.folder.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if canary.encode() in path.read_bytes()] == []
