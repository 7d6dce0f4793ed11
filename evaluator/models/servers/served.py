"""What a server says of the model that it serves: its entry in /v1/models.

In: settings. Out: the entry's plain values, none where the server lists others or nothing, or a Failure.
"""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from evaluator.models.servers.client import Failure, make_client, raw_reply
from evaluator.models.servers.settings import ServerSettings
from evaluator.redaction import Redactor
from evaluator.wording import printable

# The answer does not depend on a clip, so that it is there at once or not at all.
_SECONDS, _RETRIES = 20.0, 1
_MOST_TEXT, _MOST_NAMES = 200, 1000


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says.

    Attributes:
        entry: id, root, owned_by, created and whatever else is a text or a number.
        names: of all models that it lists.
    """

    entry: dict[str, str | int | float | bool] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """What must be the same for a run to go on; when it was started ("created") may differ."""
        return ", ".join(f"{name}={self.entry[name]}" for name in ("id", "root", "owned_by") if name in self.entry)


def ask_server(settings: ServerSettings) -> Served | Failure:
    """Ask a server for the models that it lists."""
    hurried = settings.model.model_copy(
        update={"timeout_s": min(_SECONDS, settings.model.timeout_s), "max_retries": _RETRIES}
    )
    # In a thread, because this one may be in an event loop already, as every cell of a notebook is.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _asked(replace(settings, model=hurried))).result()


async def _asked(settings: ServerSettings) -> Served | Failure:
    client = make_client(settings)
    async with client:
        content = await raw_reply(settings, client.models.with_raw_response.list)
    if isinstance(content, Failure):
        # A server need not list its models; that it says so shows that it is there.
        return Served() if content.status in (404, 405, 500, 501) else content
    try:
        entries = [each for each in json.loads(content)["data"][:_MOST_NAMES] if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Served()
    own = next((each for each in entries if each.get("id") == settings.place.model), {})
    names = tuple(_plain(each["id"]) for each in entries if isinstance(each.get("id"), str))
    return Served({name: _plain(value) for name, value in own.items() if _is_plain(value)}, names)


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float)) and abs(value if isinstance(value, (int, float)) else 0) < 1e15


def _plain(value: Any) -> Any:
    return printable(Redactor()(value))[:_MOST_TEXT] if isinstance(value, str) else value
