"""From `--model KIND:WHAT` to a model package that the evaluator can ask (evaluator/model.py).

In: what was typed. Out: a package whose heavy imports wait until its model is loaded.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.errors import ConfigError, Problem
from evaluator.tasks import Mode, task_of
from evaluator.wording import did_you_mean

if TYPE_CHECKING:
    from evaluator.model import ModelProvider

FORMS = {
    "openai": "openai:http://HOST/v1#MODEL",
    "python": "python:package.module:factory",
    "trainer": "trainer:PATH[:module.Class]",
    "transformers": "transformers:FOLDER-or-hub/name",
}
"""Kind -> how it is written."""
RUN_CONFIG = Path(__file__).resolve().parents[1] / "data" / "run.yaml"
"""The configuration of a run without one."""


def annotation_option(mode: Mode, annotation: Path) -> str:
    """The setting that names a mode's annotation: "datasets.test_ann_path_asr=..."."""
    # As JSON, because values of --options are YAML: a name may look like a number.
    return f"datasets.test_ann_path_{task_of(mode).name}={json.dumps(str(annotation), ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What was typed.

    Attributes:
        model: KIND:WHAT.
        prompts: the prompt book; None: the one that comes with the evaluator.
        trust_remote_code: whether Python that lies beside a model's weights may be run.
    """

    model: str
    prompts: Path | None = None
    trust_remote_code: bool = False

    def provider(self) -> "ModelProvider":
        """The model package.

        Raises:
            ConfigError: the kind is unknown, what follows it is not of its form, or an option does not belong to it.
        """
        kind, _, what = self.model.partition(":")
        if kind not in FORMS:
            raise _wrong(self.model, f"unknown kind {kind!r}; {did_you_mean(kind, FORMS)}")
        if kind == "python":
            from evaluator.models.factory import FactoryPackage

            module, _, factory = what.rpartition(":")
            if not all(part.isidentifier() for part in [*module.split("."), factory]):
                raise _wrong(self.model, f"expected {FORMS[kind]}")
            self._refuse("prompts", "trust_remote_code")
            return FactoryPackage(module, factory)
        if not what:
            raise _wrong(self.model, f"expected {FORMS[kind]}")
        if kind == "openai":
            from evaluator.models.servers.package import ServerPackage

            self._refuse("trust_remote_code")
            return ServerPackage(what, self.prompts)
        if kind == "trainer":
            from evaluator.models.forks.package import ForkPackage

            self._refuse("prompts", "trust_remote_code")
            return ForkPackage(what)
        from evaluator.models.hub import TransformersPackage

        return TransformersPackage(what, self.prompts, trusted=self.trust_remote_code)

    def num_gpus(self) -> int:
        """Count the GPUs that PyTorch sees, one for each process of a launch; 0 without PyTorch."""
        if importlib.util.find_spec("torch") is None:
            return 0
        import torch

        return torch.cuda.device_count()

    def _refuse(self, *names: str) -> None:
        """Refuse options that a kind does not know."""
        for name in names:
            if getattr(self, name):
                raise _wrong(
                    f"--{name.replace('_', '-')}", f"does not belong to {self.model.partition(':')[0]}: models"
                )


def _wrong(value: str, message: str) -> ConfigError:
    return ConfigError("The model cannot be chosen.", [Problem(value, message)])
