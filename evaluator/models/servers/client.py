"""The client: openai's own, whose attempts are bounded in time and size and counted.

In: settings. Out: raw replies, or a Failure that says what kind it is. Retries are the client's: after no connection, a
timeout, and HTTP 408, 409, 429 and 5xx, with growing pauses or those that the server asks for.
"""

import asyncio
import contextlib
import contextvars
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from evaluator.errors import ConfigError, Problem
from evaluator.models.servers.reply import NoAnswerError, said
from evaluator.models.servers.settings import NO_KEY, ServerSettings
from evaluator.redaction import Redactor

MOST_BYTES = 4 << 20
"""Of one reply; a transcript has some hundred."""

Kind = Literal["gone", "barred", "clip"]
_BARRED = frozenset({401, 402, 403, 404, 405, 501})
_AGAIN = frozenset({408, 409, 429})
_attempts: "contextvars.ContextVar[list[int] | None]" = contextvars.ContextVar("attempts", default=None)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply.

    Attributes:
        kind: "gone" for a server that is not there, too busy or broken; "barred" for one that answers no request like
            this one (key, address, model); "clip" for one that refuses this clip.
        reason: for a person.
        status: HTTP's; None where there was no reply.
    """

    kind: Kind
    reason: str
    status: int | None = None


def make_client(settings: ServerSettings) -> Any:
    """An `openai.AsyncOpenAI` for the server.

    Raises:
        ConfigError: the environment's proxies or certificates cannot be used.
    """
    import httpx2
    import openai

    class Bounded(openai.DefaultAsyncHttpxClient):
        """Gives up a reply that takes too long or never ends."""

        async def send(self, request: Any, **options: Any) -> Any:
            counted = _attempts.get()
            if counted is not None:
                counted[0] += 1
            options["stream"] = True
            try:
                return await asyncio.wait_for(self._whole(request, options), settings.model.timeout_s)
            except asyncio.TimeoutError as error:
                # What the client tries again after.
                raise httpx2.ReadTimeout("the reply takes too long", request=request) from error

        async def _whole(self, request: Any, options: dict[str, Any]) -> Any:
            response = await super().send(request, **options)
            try:
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MOST_BYTES:
                        raise NoAnswerError(f"the reply is larger than {MOST_BYTES >> 20} MiB")
            finally:
                await response.aclose()
            # What encodes the body on its way is undone by now.
            headers = [pair for pair in response.headers.raw if pair[0].lower() not in _OF_THE_WAY]
            return type(response)(response.status_code, headers=headers, content=bytes(content), request=request)

    try:
        return openai.AsyncOpenAI(
            base_url=settings.place.address,
            api_key=settings.key or NO_KEY,
            max_retries=settings.model.max_retries,
            timeout=settings.model.timeout_s,
            http_client=Bounded(timeout=settings.model.timeout_s),
        )
    except (ImportError, ValueError, OSError, openai.OpenAIError) as error:
        message = f"the environment's proxies or certificates cannot be used: {Redactor()(str(error))}"
        raise ConfigError(
            "The model cannot be loaded.", [Problem(f"--model {settings.place.name}", message)]
        ) from error


_OF_THE_WAY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


async def raw_reply(settings: ServerSettings, ask: Callable[[], Awaitable[Any]]) -> bytes | Failure:
    """Have a request made, with the client's retries; the body of a reply with status 200, or the failure."""
    import openai

    counted = [0]
    token = _attempts.set(counted)
    try:
        raw = await ask()
        content: bytes = raw.content
    except NoAnswerError as error:
        return Failure("gone", str(error))
    except openai.APIStatusError as error:
        return _refused(settings, error.status_code, error.response.content, counted[0])
    except openai.APITimeoutError:
        return Failure("gone", f"no answer within {settings.model.timeout_s:g} s{_told(counted[0])}")
    except openai.APIConnectionError as error:
        return Failure("gone", f"{_cause(error)}{_told(counted[0])}{_proxy(settings)}")
    except Exception as error:  # noqa: BLE001 - the client is foreign code, and what it was sent is a stranger's
        return Failure("gone", f"{type(error).__name__}: {error}")
    finally:
        _attempts.reset(token)
    return content


def _refused(settings: ServerSettings, status: int, content: bytes, attempts: int) -> Failure:
    kind: Kind = "barred" if status in _BARRED else "gone" if status in _AGAIN or status >= 500 else "clip"
    return Failure(kind, f"HTTP {status}: {said(content)}{_told(attempts)}", status)


def _told(attempts: int) -> str:
    return "" if attempts < 2 else f" ({attempts} attempts)"


def _cause(error: BaseException) -> str:
    """What lies below the client's "Connection error."."""
    found: BaseException = error
    below: BaseException | None = error
    while below is not None:
        # The system's own errors say most: a refused connection, a certificate.
        found = below if isinstance(below, OSError) or not isinstance(found, OSError) else found
        several: Sequence[BaseException] = getattr(below, "exceptions", ())
        below = several[0] if several else below.__cause__ or below.__context__
    return f"{type(found).__name__}: {str(found).strip() or 'the connection ended'}"


def _proxy(settings: ServerSettings) -> str:
    """A word about a proxy that the environment names, which often is why a server nearby is not found."""
    parts = urlsplit(settings.place.address)
    with contextlib.suppress(ValueError, OSError):
        proxies = urllib.request.getproxies()
        named = parts.scheme if parts.scheme in proxies else "all" if "all" in proxies else None
        if named and not urllib.request.proxy_bypass(parts.hostname or ""):
            return f", through the proxy of {named.upper()}_PROXY (NO_PROXY leaves hosts out)"
    return ""
