"""The sections "model" and "generate" of a model behind a server: `run --model openai:http://HOST/v1#MODEL`.

In: the sections as plain values. Out: frozen pydantic models; sections.py tells their problems.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from evaluator.config.sections import StrictSection


class ServerModelConfig(StrictSection):
    """How a server is asked, in `run --model openai:...`; how many clips at once says run.batch_size_eval.

    Attributes:
        ask: what a clip is in: a part "input_audio" or "audio_url" of a chat, or a request for "transcriptions", which
            takes no prompt.
        timeout_s: seconds for one attempt, from connecting to the last byte.
        max_retries: further attempts of a clip after one that found no server, took too long, or got HTTP 408, 409,
            429 or 5xx; then it is a row without an answer.
        key_variable: the environment variable that holds the key; where OPENAI_API_KEY is not set, none is sent.
        language: of the speech, for transcriptions ("en"); "": the server finds out.
        token_limit: what the server calls the token limit.
    """

    ask: Literal["input_audio", "audio_url", "transcriptions"] = "input_audio"
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    # Four attempts that take their time end before a worker is taken for one that hangs (run.clip_timeout_s).
    max_retries: int = Field(default=3, ge=0, le=100)
    key_variable: str = "OPENAI_API_KEY"
    language: str = ""
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    @field_validator("key_variable")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("expected the name of an environment variable")
        return value


class ServerGenerateConfig(StrictSection):
    """What a server is told of generating, in `run --model openai:...`; "default" sends nothing.

    Attributes:
        max_new_tokens: the token limit of a chat's answer.
        temperature: 0 takes the likeliest token.
        seed: for servers that sample; null is run.seed. Transcriptions have none.
        top_p: the share of likely tokens to draw from.
        extra: what else the server takes, sent as it is: {top_k: 1}.
    """

    max_new_tokens: int | Literal["default"] = 200
    temperature: float | Literal["default"] = 0.0
    seed: int | Literal["default"] | None = None
    top_p: float | Literal["default"] = "default"
    extra: dict[str, Any] = Field(default={})

    @field_validator("max_new_tokens")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError('expected 1 or more, or "default"')
        return value

    @field_validator("temperature", "top_p")
    @classmethod
    def _not_negative(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and value < 0:
            raise ValueError('expected 0 or more, or "default"')
        return value
