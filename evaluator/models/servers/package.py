"""A model behind a server as a model package (evaluator/model.py).

In: address and name, prompts. Out: the light questions, of which one asks the server what it serves, and the model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import ConfigError, Problem
from evaluator.extras import check_installed
from evaluator.models.servers.settings import ServerSettings, place_of, problems_of
from evaluator.redaction import Redactor

if TYPE_CHECKING:
    from evaluator.model import AudioLM
    from evaluator.models.prompts import PromptBook
    from evaluator.models.servers.served import Served


class ServerPackage:
    """A model behind a server.

    Args:
        what: "http://HOST/v1#MODEL".
        prompts: the prompt book's file; None: the evaluator's own.

    Raises:
        ConfigError: what was typed names no server and model.
    """

    def __init__(self, what: str, prompts: Path | None) -> None:
        self._place, self._prompts = place_of(what), prompts
        self._served: Served | None = None
        self.__name__ = self._place.name

    def tasks(self, config: Mapping[str, Any]) -> dict[str, bool]:
        """The labels of the prompt book; a recogniser transcribes, whatever it is asked."""
        return self._book().tasks()

    def check_config(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with the sections."""
        return problems_of(config)

    def check_parts(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Look for the client and the server, before anything is run."""
        check_installed("openai")
        self._book()
        self._ask(ServerSettings.of(self._place, config))
        return []

    def notices(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """A key that goes over the network in clear."""
        settings = ServerSettings.of(self._place, config)
        if settings.key and self._place.address.startswith("http:") and not self._place.is_here:
            return [
                ("model.key_variable", f"is sent to {self._place.address} without encryption: https:// encrypts it")
            ]
        return []

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Name, prompts and what the server says of its model; "" where it cannot be asked now."""
        from evaluator.models.servers.client import Failure

        settings = ServerSettings.of(self._place, config)
        served = self._served
        if served is None:
            check_installed("openai")
            from evaluator.models.servers.served import ask_server

            found = ask_server(settings)
            served = None if isinstance(found, Failure) else found
        told = "" if served is None else served.fingerprint()
        return {"model.name": self.__name__, "model.prompts": self._book().fingerprint(), "model.served": told}

    def load_model(self, config: Mapping[str, Any], device: str) -> "AudioLM":
        """Make the client; the device is the server's."""
        check_installed("openai")
        from evaluator.models.servers.answering import ServerLM

        settings = ServerSettings.of(self._place, config)
        return ServerLM(settings, self._book(), self._ask(settings))

    def _ask(self, settings: ServerSettings) -> "Served":
        """Ask the server what it serves, once.

        Raises:
            ConfigError: it is not there, takes no such key, or lists other models only.
        """
        from evaluator.models.servers.client import Failure
        from evaluator.models.servers.served import ask_server

        if self._served is None:
            found = ask_server(settings)
            if isinstance(found, Failure):
                key = f"; the key comes from {settings.key_told()}" if found.kind == "barred" else ""
                raise self._failed(f"the server does not answer: {Redactor()(found.reason)}{key}")
            self._served = found
        return self._served

    def _failed(self, message: str) -> ConfigError:
        return ConfigError("The model cannot be asked.", [Problem(f"--model {self.__name__}", message)])

    def _book(self) -> "PromptBook":
        from evaluator.models.prompts import read_prompts

        return read_prompts(self._prompts)
