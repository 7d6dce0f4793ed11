"""`transformers:ID_OR_FOLDER`: a model of the transformers library behind the contract.

In: a folder or a name on the hub. Out: a model package. Configuration and processor are looked at before a run, weights
when the model loads; a folder is known by its files' content, a name on the hub by the commit.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.config.sections import DatasetsConfig, RunConfig
from evaluator.errors import ConfigError, Problem
from evaluator.files import sha256
from evaluator.wording import did_you_mean

if TYPE_CHECKING:
    from evaluator.model import AudioLM
    from evaluator.models.prompts import PromptBook

MODEL_KEYS = ("dtype", "attn_implementation", "revision", "language")
DTYPES = ("auto", "float32", "bfloat16", "float16")


class TransformersPackage:
    """A model package that is a folder or a name on the hub.

    Args:
        what: the folder or name.
        prompts: the prompt book's file; None: the evaluator's own.
        trusted: whether Python that lies beside the weights may be run.
    """

    def __init__(self, what: str, prompts: Path | None, *, trusted: bool) -> None:
        self._what, self._prompts, self._trusted = what, prompts, trusted
        self.__name__ = f"transformers:{what}"

    def tasks(self, config: Mapping[str, Any]) -> dict[str, bool]:
        """The labels of the prompt book; a recogniser transcribes, whatever it is asked."""
        return self._book().tasks()

    def check_config(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with the sections: unknown keys and values."""
        from transformers import GenerationConfig

        settings: Any = GenerationConfig
        known = {
            "model": MODEL_KEYS,
            "generate": tuple(settings().to_dict()),
            "datasets": tuple(DatasetsConfig.model_fields),
            "run": tuple(RunConfig.model_fields),
        }
        found = [
            (f"{section}.{key}", f"unknown key; {did_you_mean(key, keys)}")
            for section, keys in known.items()
            for key in config[section]
            if key not in keys
        ]
        dtype = config["model"].get("dtype", "auto")
        if dtype not in DTYPES:
            found.append(("model.dtype", f"expected one of {', '.join(DTYPES)}, found {dtype!r}"))
        return found

    def check_parts(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Read what the weights are of, before they are read."""
        self._class(config)
        self._book()
        return []

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Name, content and prompts."""
        return {"model.name": f"{self.__name__} {self._content(config)}", "model.prompts": self._book().fingerprint()}

    def load_model(self, config: Mapping[str, Any], device: str) -> "AudioLM":
        """Load weights and processor."""
        from evaluator.models.loaded import load

        found, settings = self._class(config)
        return load(self._what, found, settings, config, device, self._book(), self._origin(config))

    def _book(self) -> "PromptBook":
        from evaluator.models.prompts import read_prompts

        return read_prompts(self._prompts)

    def _origin(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What every `from_pretrained` is given."""
        revision = config["model"].get("revision") or "main"
        return {"trust_remote_code": self._trusted, "revision": revision}

    def _class(self, config: Mapping[str, Any]) -> Any:
        """The auto class, and the model's configuration."""
        from transformers import AutoConfig

        from evaluator.models.auto_class import auto_class

        folder = Path(self._what).expanduser()
        if self._what.startswith((".", "/", "~")) and not (folder / "config.json").is_file():
            raise self._failed(f"there is no file config.json in {folder}")
        try:
            settings = AutoConfig.from_pretrained(
                str(folder) if folder.is_dir() else self._what, **self._origin(config)
            )
        except (OSError, ValueError, KeyError) as error:
            if "trust_remote_code" in str(error):
                raise self._failed(
                    "it brings Python files of its own, which run with all your rights: read them, then give "
                    "--trust-remote-code"
                ) from error
            raise self._failed(str(error).strip().partition("\n")[0]) from error
        return auto_class(settings, self.__name__), settings

    def _content(self, config: Mapping[str, Any]) -> str:
        """Hash of a folder's files; the commit of a name on the hub, "" where it is not in the cache yet."""
        folder = Path(self._what).expanduser()
        if folder.is_dir():
            found = hashlib.sha256()
            for path in sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".md"):
                found.update(f"{path.name} {sha256(path)}\n".encode())
            return found.hexdigest()
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self._what, "config.json", revision=self._origin(config)["revision"])
        return Path(cached).parent.name if isinstance(cached, str) else ""

    def _failed(self, message: str) -> ConfigError:
        return ConfigError("The model cannot be loaded.", [Problem(f"--model {self.__name__}", message)])
