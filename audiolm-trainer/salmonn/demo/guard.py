"""What stands before the web page: who may ask at all, how often a password may be tried, how much may be uploaded.

In: requests to the page's application. Out: its own answers, with a policy for browsers in their headers, or a refusal
in one sentence. A page in another tab could otherwise send files here, or reach this server under a name of its own
that it lets point at this machine.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a browser may load and whom it may ask: this server. Gradio has scripts in its pages and makes workers of blobs.
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
LOGINS_A_MINUTE = 10
UPLOADS_KEPT = 10
"""Files of the largest size that are kept at a time, all visitors together."""
KEPT_SECONDS = 60.0
"""A file younger than this is not deleted for a newer one: its visitor's session may not have read it yet."""


class ClosedPage:
    """Guards an ASGI application.

    Args:
        app: the application.
        public: host names of the public link, empty without one; one that starts with a dot is all names below it. The
            owner may change the set.
        uploads: the folder that the application keeps uploads in.
        most_bytes: bytes of uploads that are kept at a time.
    """

    def __init__(self, app: ASGIApp, *, public: set[str], uploads: Path, most_bytes: int) -> None:
        self.app = app
        self.public = public
        self.uploads = uploads
        self.most_bytes = most_bytes
        self.logins: dict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or answer as the application does, with the policy in the header."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["referrer-policy"] = "no-referrer"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _name(f"//{host}")
        if name not in LOCAL_NAMES and not self._is_public(name):
            return _refuse(421, f"This page is not served under the name {host!r}; open the address that it printed.")
        origin = headers.get("origin")
        # Under the public link the tunnel may write another host; where its pages come from is known all the same.
        own = origin in (None, f"http://{host}", f"https://{host}")
        if not own and not self._is_public(_name(str(origin))):
            return _refuse(403, "Requests from the pages of other sites are not taken.")
        if scope["type"] == "http" and scope["method"] == "POST":
            path = str(scope["path"]).rstrip("/")
            if path == "/login" and not self._may_try(scope):
                return _refuse(429, "Too many passwords were tried; wait a minute.")
            if path.endswith("/upload") and not self._has_room():
                return _refuse(429, "Too many files were sent; wait a minute.")
        return None

    def _is_public(self, name: str) -> bool:
        return any(name == known or (known.startswith(".") and name.endswith(known)) for known in self.public)

    def _may_try(self, scope: Scope) -> bool:
        """Count a login; False where its sender has had as many as allowed in the last minute."""
        now = time.monotonic()
        tried = self.logins[(scope.get("client") or ("", 0))[0]]
        while tried and now - tried[0] > 60:
            tried.popleft()
        if len(tried) >= LOGINS_A_MINUTE:
            return False
        tried.append(now)
        return True

    def _has_room(self) -> bool:
        """Delete the oldest uploads until there is room; False where only young ones are left."""
        found = sorted(_files(self.uploads), key=lambda entry: entry[0])
        total = sum(size for _, size, _ in found)
        for changed, size, path in found:
            if total < self.most_bytes:
                break
            if time.time() - changed > KEPT_SECONDS:
                path.unlink(missing_ok=True)
                total -= size
        return total < self.most_bytes


def _files(folder: Path) -> Iterable[tuple[float, int, Path]]:
    """Time of the last change, bytes and path of every file in a folder; one that vanishes meanwhile is left out."""
    for path in folder.rglob("*"):
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_file():
            yield status.st_mtime, status.st_size, path


def _name(address: str) -> str:
    """The host name of an address, "" where it has none or is malformed."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _refuse(status: int, sentence: str) -> PlainTextResponse:
    return PlainTextResponse(sentence, status_code=status)
