"""`--trainer PATH[:module.Class]`: a checkout of the original trainer's layout as a model package.

In: where it is. Out: a package that loads its model by `from_config`, in the environment that runs the evaluator and
with whatever versions the checkout needs. Nothing of it is imported before its model is loaded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.errors import ModelLoadError
from evaluator.files import sha256
from evaluator.models.forks.layout import find_class
from evaluator.models.forks.prompt_file import read_prompts

if TYPE_CHECKING:
    from evaluator.models.forks.answering import ForkLM

_FILES = ("ckpt", "beats_path", "test_prompt_path")


class Settings(dict[str, Any]):
    """A section as forks read it: `config.get("lora", True)`, `config["lora"]` and `config.lora`."""

    def __getattr__(self, name: str) -> Any:
        """The value of a key; as in OmegaConf None where there is none."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class ForkPackage:
    """A checkout.

    Args:
        typed: PATH, or PATH:module.Class.

    Raises:
        ConfigError: there is no such class, or more than one.
    """

    def __init__(self, typed: str) -> None:
        self._class = find_class(typed)
        self.__name__ = f"trainer:{typed}"

    def check_parts(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Files that are not there."""
        model = config["model"]
        for name in (*_FILES, "llama_path", "whisper_path"):
            value = model.get(name)
            # A name of the hub looks like a relative path.
            is_file = name in _FILES or Path(str(value)).is_absolute()
            if value and is_file and not Path(str(value)).exists():
                yield f"model.{name}", f"there is no {value}"
        if not model.get("whisper_path"):
            yield "model.whisper_path", "the folder of Whisper is needed for its feature extractor"

    def tasks(self, config: Mapping[str, Any]) -> dict[str, bool]:
        """The tasks that have a prompt -> whether it needs a question."""
        return {task: "{}" in text for task, text in read_prompts(config).items()}

    def fingerprints(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Digests of the checkout's code and of the files that the configuration names."""
        found = {"model.trainer": f"{self._class.module}.{self._class.name} {self._class.digest()}"}
        for name in _FILES:
            path = Path(str(config["model"].get(name) or ""))
            found |= {f"model.{name}": sha256(path)} if path.is_file() else {}
        return found

    def load_model(self, config: Mapping[str, Any], device: str) -> "ForkLM":
        """Load the model by the checkout's own `from_config`.

        Raises:
            ModelLoadError: it needs a GPU that is not there.
        """
        import torch
        import transformers

        from evaluator.models.forks.answering import ForkLM
        from evaluator.models.forks.surroundings import foreign_code, wants_gpu

        place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        prompts = read_prompts(config)
        try:
            with foreign_code(place):
                model = self._class.load().from_config(Settings(config["model"])).to(place).eval()
                # Half precision is for GPUs; quantised layers have no other.
                model = model.float() if place.type == "cpu" else model
        except (RuntimeError, AssertionError, OSError, ImportError) as error:
            where = wants_gpu(error, self._class.root) if place.type == "cpu" else None
            if where is None:
                raise
            raise ModelLoadError(f"The fork asks for a GPU, and there is none: {where}. {error}") from error
        extractor = transformers.WhisperFeatureExtractor.from_pretrained(
            config["datasets"].get("whisper_path") or config["model"]["whisper_path"]
        )
        return ForkLM(model, extractor, prompts, config, place)
