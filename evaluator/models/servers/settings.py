"""What is known of a server before it is asked: its address, its model's name, the settings, the key.

In: what was typed, and the sections of the configuration. Out: a ServerSettings. The key is read from the environment,
and every redactor of the process masks it from then on.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from evaluator.config.sections import DatasetsConfig, RunConfig, validated
from evaluator.config.server_sections import ServerGenerateConfig, ServerModelConfig
from evaluator.errors import ConfigError, Problem
from evaluator.redaction import keep_secret
from evaluator.wording import did_you_mean, printable

FORM = "openai:http://HOST/v1#MODEL"
NO_KEY = "EMPTY"
"""What a client sends that must send something; servers of one's own take anything."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is.

    Attributes:
        address: of the server, without a slash at its end: "http://localhost:8000/v1".
        model: what the server calls it.
    """

    address: str
    model: str

    @property
    def name(self) -> str:
        """As it is typed."""
        return f"openai:{self.address}#{self.model}"

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.address).hostname in ("localhost", "127.0.0.1", "::1")


def place_of(typed: str) -> Place:
    """Read "http://HOST/v1#MODEL".

    Raises:
        ConfigError: it is no such thing, or has a key in it, which is not repeated in the message.
    """
    address, _, model = typed.partition("#")
    try:
        parts = urlsplit(address)
        # The port is checked when it is asked for.
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
        parts = urlsplit("")
    if "@" in address or parts.query:
        raise _wrong(
            "openai:...",
            "the address has a user name, a password or a query in it: leave them out. A key is read from the "
            "environment variable OPENAI_API_KEY, or the one that model.key_variable names",
        )
    if not fits or not address.isprintable() or " " in address:
        raise _wrong(f"openai:{printable(typed)}", f"expected {FORM}, an address with http:// or https://")
    if not model.strip() or not model.isprintable():
        raise _wrong(f"openai:{printable(typed)}", f"expected {FORM}: what the server calls the model follows #")
    return Place(address.rstrip("/"), model.strip())


def _wrong(where: str, message: str) -> ConfigError:
    return ConfigError("The model cannot be chosen.", [Problem(where, message)])


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server is asked.

    Attributes:
        place: where the model is.
        model: the section "model".
        generate: the section "generate".
        at_once: clips that are asked at a time.
        seed: of this run.
        key: "" for none.
    """

    place: Place
    model: ServerModelConfig
    generate: ServerGenerateConfig
    at_once: int
    seed: int
    key: str

    @classmethod
    def of(cls, place: Place, config: Mapping[str, Any]) -> "ServerSettings":
        """Read sections that have no problems.

        Raises:
            ConfigError: the key is none.
        """
        model = validated(ServerModelConfig, "model", config["model"])[0]
        run = RunConfig.model_fields
        return cls(
            place,
            model,
            validated(ServerGenerateConfig, "generate", config["generate"])[0],
            at_once=int(config["run"].get("batch_size_eval", run["batch_size_eval"].default)),
            seed=int(config["run"].get("seed", run["seed"].default)),
            key=_key(model),
        )

    def key_told(self) -> str:
        """Where the key comes from, for messages."""
        return f"the environment variable {self.model.key_variable}" + ("" if self.key else ", which is not set")


def problems_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with the sections, as (dotted key, message)."""
    found = [
        *validated(ServerModelConfig, "model", config["model"])[1],
        *validated(ServerGenerateConfig, "generate", config["generate"])[1],
    ]
    # Whoever writes the key itself there must not read it on a screen.
    found = [
        (key, message.partition(", found ")[0] if key == "model.key_variable" else message) for key, message in found
    ]
    known = {"datasets": DatasetsConfig.model_fields, "run": RunConfig.model_fields}
    return found + [
        (f"{section}.{key}", f"unknown key; {did_you_mean(key, keys)}")
        for section, keys in known.items()
        for key in config[section]
        if key not in keys
    ]


def _key(model: ServerModelConfig) -> str:
    """The key; "" for none.

    Raises:
        ConfigError: the variable that the configuration names is not set, or what it holds is no key.
    """
    name = model.key_variable
    key = os.environ.get(name, "").strip()
    if not key and "key_variable" in model.model_fields_set:
        raise ConfigError(f"The environment variable {name} is not set, and model.key_variable says that it has a key.")
    keep_secret(key)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"The environment variable {name} holds characters that no key has.")
    return key
