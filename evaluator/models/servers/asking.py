"""Asking a server about one clip, by a chat or a request for its transcript.

In: a client, settings, prompts. Out: a Reply, or a Failure.
"""

import base64
from typing import Any

from evaluator.model import Request
from evaluator.models.prompts import PromptBook
from evaluator.models.servers.client import Failure, raw_reply
from evaluator.models.servers.reply import NoAnswerError, Reply, read_chat, read_transcription
from evaluator.models.servers.settings import ServerSettings
from evaluator.models.servers.wav import wav_bytes

SAMPLING_RATE = 16000
"""Of the clips that are sent, in Hz: what speech encoders hear. Servers resample to their model's."""


async def ask(client: Any, settings: ServerSettings, book: PromptBook, request: Request) -> Reply | Failure:
    """Ask about a clip.

    Args:
        client: an `openai.AsyncOpenAI`.
        settings: how.
        book: the prompts.
        request: the clip.
    """
    wav = wav_bytes(request.audio, SAMPLING_RATE)
    if settings.model.ask == "transcriptions":
        create, arguments = client.audio.transcriptions, _transcription(settings, wav)
    else:
        create, arguments = client.chat.completions, _chat(settings, wav, book.ask(request.task, request.question))
    content = await raw_reply(settings, lambda: create.with_raw_response.create(**arguments))
    if isinstance(content, Failure):
        return content
    try:
        return read_transcription(content) if settings.model.ask == "transcriptions" else read_chat(content)
    except NoAnswerError as error:
        return Failure("gone", str(error))


def _chat(settings: ServerSettings, wav: bytes, text: str) -> dict[str, Any]:
    data = base64.b64encode(wav).decode("ascii")
    if settings.model.ask == "audio_url":
        part: dict[str, Any] = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}
    else:
        part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    generate = settings.generate
    told = {
        settings.model.token_limit: generate.max_new_tokens,
        "temperature": generate.temperature,
        "top_p": generate.top_p,
        "seed": settings.seed if generate.seed is None else generate.seed,
    }
    return {
        "model": settings.place.model,
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": text}]}],
        **{name: value for name, value in told.items() if value != "default"},
        "extra_body": generate.extra or None,
    }


def _transcription(settings: ServerSettings, wav: bytes) -> dict[str, Any]:
    told = {"temperature": settings.generate.temperature, "language": settings.model.language or "default"}
    return {
        "model": settings.place.model,
        "file": ("clip.wav", wav, "audio/wav"),
        **{name: value for name, value in told.items() if value != "default"},
        "extra_body": settings.generate.extra or None,
    }
