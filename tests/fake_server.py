"""A server that speaks enough of OpenAI's API on the loopback, from the standard library: what it says is a function.

A test gives `say(asked)`, which returns what is sent for one clip, or does to the connection what servers do.
"""

import base64
import io
import json
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "fake/listener"


@dataclass(frozen=True)
class Asked:
    """One request about a clip."""

    number: int
    """How many came before it, those of all clips counted."""
    samples: NDArray[np.int16]
    fields: dict[str, Any]
    headers: dict[str, str]

    @property
    def heard(self) -> str:
        """A text that tells the clip from others: how long it is."""
        return f"clip of {len(self.samples)} samples"


@dataclass(frozen=True)
class Said:
    """A reply."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """That it takes."""
    drop: bool = False
    """Whether the connection ends without a reply."""
    drip: float = 0.0
    """Seconds between the bytes."""


def chat(text: str | None, *, finish: str | None = "stop", tokens: int = 3, **message: Any) -> Said:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return Said(
        json.dumps(
            {
                "object": "chat.completion",
                "choices": [choice],
                "usage": {"completion_tokens": tokens},
                "system_fingerprint": "fp_1",
            }
        ).encode()
    )


def failure(status: int, message: str, **headers: str) -> Said:
    """An error as OpenAI's API tells it."""
    return Said(json.dumps({"error": {"message": message}}).encode(), status, headers)


class FakeServer(ThreadingHTTPServer):
    """The server; what it was asked and how much at a time is kept."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, say: Callable[[Asked], Said], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.say = say
        self.models: Said = Said(json.dumps({"data": [{"id": MODEL, "owned_by": "us", "created": 1}]}).encode())
        self.asked: list[Asked] = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        """What is typed before #."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away, as they may."""


@contextmanager
def served(say: Callable[[Asked], Said] = lambda asked: chat(asked.heard), port: int = 0) -> Iterator[FakeServer]:
    """A server while the block runs."""
    server = FakeServer(say, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send(self.server.models if self.path == "/v1/models" else failure(404, "Not Found"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path not in ("/v1/chat/completions", "/v1/audio/transcriptions"):
            self._send(failure(404, "Not Found"))
            return
        fields = json.loads(body) if "chat" in self.path else _form(self.headers["Content-Type"], body)
        with self.server.lock:
            asked = Asked(len(self.server.asked), _samples(fields), fields, _lower(self.headers))
            self.server.asked.append(asked)
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        said = self.server.say(asked)
        time.sleep(said.seconds)
        with self.server.lock:
            self.server.now -= 1
        self._send(said)

    def _send(self, said: Said) -> None:
        if said.drop:
            self.close_connection = True
            return
        self.send_response(said.status)
        for name, value in {"Content-Type": "application/json", **said.headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        pieces = [said.body[at : at + 1] for at in range(len(said.body))] if said.drip else [said.body]
        for piece in pieces:
            self.wfile.write(piece)
            time.sleep(said.drip)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _samples(fields: dict[str, Any]) -> NDArray[np.int16]:
    if "file" in fields:
        data = fields["file"]
    else:
        [part] = [part for part in fields["messages"][0]["content"] if part["type"] != "text"]
        told = part[part["type"]]
        data = base64.b64decode(told["data"] if "data" in told else told["url"].removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def _form(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of a form of several parts."""
    boundary = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, Any] = {}
    for part in body.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        fields[name] = value[:-2] if name == "file" else value[:-2].decode()
    return fields
