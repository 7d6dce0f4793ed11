"""What a server said of one clip, read with suspicion: an answer, a refusal, or the reason why there is neither.

In: the bytes of a reply with HTTP status 200. Out: a Reply. Whatever has not the form of the API is a reason.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from evaluator.redaction import Redactor
from evaluator.wording import shown

# An answer that its model ended; anything else but "length" and "content_filter" was broken off.
_ENDED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"})


class NoAnswerError(Exception):
    """There is no answer; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A clip's answer.

    Attributes:
        text: what was said.
        state: "stop", "length" for one that the token limit cut off, "refusal".
        tokens: new ones; 0 where the server does not count.
        fingerprint: what the server says of its state, or None.
    """

    text: str
    state: Literal["stop", "length", "refusal"]
    tokens: int
    fingerprint: str | None = None


def read_chat(content: bytes) -> Reply:
    """Read a chat completion.

    Raises:
        NoAnswerError: it is none.
    """
    whole = _object(content)
    choices = whole.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise NoAnswerError(f"the reply has no choices with a message: {_beginning(content)}")
    text, refusal, reason = _text(message.get("content")), message.get("refusal"), choice.get("finish_reason")
    fingerprint = whole.get("system_fingerprint")
    state: Literal["stop", "length", "refusal"] = "length" if reason == "length" else "stop"
    if reason == "content_filter" or (isinstance(refusal, str) and refusal.strip()):
        # What the model says instead is its text: it is scored, and counted as a refusal.
        state, text = "refusal", text or (refusal if isinstance(refusal, str) else "")
    elif reason is not None and reason not in _ENDED and reason != "length":
        raise NoAnswerError(f"the server broke the answer off: finish_reason is {_shown(reason)}")
    tokens = _count(whole.get("usage"), "completion_tokens")
    return Reply(text, state, tokens, fingerprint if isinstance(fingerprint, str) and fingerprint else None)


def read_transcription(content: bytes) -> Reply:
    """Read a transcription.

    Raises:
        NoAnswerError: it is none.
    """
    whole = _object(content)
    text = whole.get("text")
    if not isinstance(text, str):
        raise NoAnswerError(f"the reply has no text: {_beginning(content)}")
    return Reply(text.strip(), "stop", _count(whole.get("usage"), "output_tokens"))


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise NoAnswerError(f"the reply is not JSON: {_beginning(content)}") from None
    if not isinstance(found, dict):
        raise NoAnswerError(f"the reply is no object: {_beginning(content)}")
    if found.get("error"):
        raise NoAnswerError(f"the server says: {said(content)}")
    return found


def _text(content: object) -> str:
    """The text of a message, which may be in parts; null is none."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(part for part in parts if isinstance(part, str)) if any(parts) or not parts else parts
    if not isinstance(content, str):
        raise NoAnswerError(f"the message's content is {_shown(content)}, not a text")
    return content


def _count(usage: object, name: str) -> int:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if type(found) is int and found >= 0 else 0


def said(content: bytes) -> str:
    """What a server says that something is wrong with, on one short line: its error's message, or how it begins."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        return _beginning(content)
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    return _shown(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False), 200).strip("'\"")


def _beginning(content: bytes) -> str:
    return _shown(" ".join(content.decode(errors="replace").split()), 120) if content.strip() else "it is empty"


def _shown(value: object, limit: int = 60) -> str:
    """A value for a message, masked while it is whole: the half of a key that is cut is not known as one."""
    redact = Redactor()
    return shown(redact(value), limit) if isinstance(value, str) else redact(repr(value))[:limit]
