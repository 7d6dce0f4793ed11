"""A model behind a server, as the contract wants it: requests are pulled as there is room, answers come in any order.

In: settings, prompts. Out: an object with `sampling_rate` and `generate`. Requests are made on a thread of their own; a
clip whose attempts are used up is an answer with a reason. A server that is gone for more clips in a row than are asked
at a time, or that takes no request at all, ends the run: the clips that are left are asked when it goes on.
"""

import asyncio
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from evaluator.errors import ServerError
from evaluator.model import Answer, Request
from evaluator.models.prompts import PromptBook
from evaluator.models.servers.asking import SAMPLING_RATE, ask
from evaluator.models.servers.client import Failure, make_client
from evaluator.models.servers.reply import Reply
from evaluator.models.servers.served import Served
from evaluator.models.servers.settings import ServerSettings
from evaluator.redaction import Redactor
from evaluator.wording import named

FEWEST_IN_A_ROW = 4
"""So many clips in a row are asked at least before a server is taken for gone."""
FIRST_REFUSED = 16
"""So many clips at least are asked before a server is taken for one that answers none."""
_MOST_FINGERPRINTS, _MOST_FINGERPRINT = 8, 100
_CLOSING_SECONDS = 5.0


class ServerLM:
    """A model behind a server.

    Args:
        settings: how it is asked.
        book: the prompts.
        served: what the server says of it.
    """

    sampling_rate = SAMPLING_RATE

    def __init__(self, settings: ServerSettings, book: PromptBook, served: Served) -> None:
        self.at_once = settings.at_once
        self._settings, self._book, self._served = settings, book, served
        self._redact = Redactor()
        self._fingerprints: list[str] = []
        self._answered = self._refused = self._in_a_row = 0
        self._client = make_client(settings)
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="server client", daemon=True)
        thread.start()
        weakref.finalize(self, _close, self._client, self._loop, thread)

    @property
    def served(self) -> Mapping[str, Any]:
        """What the server says of its model, and each state of itself ("system_fingerprint") that it answered with."""
        told: dict[str, Any] = dict(self._served.entry)
        return {**told, "system_fingerprint": ", ".join(self._fingerprints)} if self._fingerprints else told

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer the requests, as many at a time as `run.batch_size_eval` says.

        Raises:
            ServerError: the server is gone, or answers no request.
        """
        stream = iter(requests)
        asked: dict[Future[Reply | Failure], Request] = {}
        try:
            while True:
                while len(asked) < self.at_once and (request := next(stream, None)) is not None:
                    asking = ask(self._client, self._settings, self._book, request)
                    asked[asyncio.run_coroutine_threadsafe(asking, self._loop)] = request
                if not asked:
                    return
                done, _ = wait(asked, return_when=FIRST_COMPLETED)
                found = [(asked.pop(each), each.result()) for each in done]
                # Answers first: whatever ends the run, they are kept.
                for request, said in sorted(found, key=lambda pair: isinstance(pair[1], Failure)):
                    yield self._answer(request, said)
        finally:
            for each in asked:
                each.cancel()

    def _answer(self, request: Request, said: Reply | Failure) -> Answer:
        if isinstance(said, Failure):
            reason = self._redact(said.reason)
            self._count_failure(said, reason)
            return Answer(request.index, "", 0, "error", reason)
        self._answered, self._in_a_row = self._answered + 1, 0
        fingerprint = self._redact(said.fingerprint or "")[:_MOST_FINGERPRINT]
        if fingerprint and fingerprint not in self._fingerprints and len(self._fingerprints) < _MOST_FINGERPRINTS:
            self._fingerprints.append(fingerprint)
        # A server may repeat what it was sent, the key too.
        return Answer(request.index, self._redact(said.text), said.tokens, said.state)

    def _count_failure(self, failure: Failure, reason: str) -> None:
        """Count a clip without an answer.

        Raises:
            ServerError: the other clips would have none either.
        """
        address = self._settings.place.address
        if failure.kind == "barred":
            raise ServerError(f"The server {address} takes no such request: {reason}.{self._hint(failure)}")
        if failure.kind == "clip":
            self._refused += 1
            if not self._answered and self._refused > max(self.at_once, FIRST_REFUSED):
                raise ServerError(f"The server {address} answers none of {self._refused} clips. The last: {reason}.")
            return
        self._in_a_row += 1
        if self._in_a_row > max(self.at_once, FEWEST_IN_A_ROW):
            raise ServerError(
                f"The server {address} has no answer to {self._in_a_row} clips in a row. The last: {reason}."
            )

    def _hint(self, failure: Failure) -> str:
        if failure.status in (401, 403):
            return f" The key comes from {self._settings.key_told()}."
        if failure.status == 404:
            listed = f" The server lists {named(self._served.names)}." if self._served.names else ""
            return f" Addresses end in /v1, as a rule.{listed}"
        return ""


def _close(client: Any, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """End what is still asked, and the thread."""

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await client.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    thread.join(_CLOSING_SECONDS)
    if not thread.is_alive():
        loop.close()
