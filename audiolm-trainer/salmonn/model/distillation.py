"""Loading the model that teaches another; what it adds to the loss is in `SALMONN.forward`."""

import torch

from salmonn.config.schema import Config
from salmonn.errors import ConfigError
from salmonn.model.salmonn import SALMONN


def load_teacher(config: Config, student: SALMONN, *, device: torch.device, dtype: torch.dtype) -> SALMONN:
    """Load the model that teaches another.

    Args:
        config: of the teacher.
        student: what is taught.
        device: where both are.
        dtype: of the teacher's frozen parts.

    Raises:
        ConfigError: its encoders or its tokens are others than the student's, so that the two cannot be compared.
        CheckpointError: a part cannot be loaded.
    """
    teacher = SALMONN.from_config(config, device=device, dtype=dtype)
    ours, theirs = student.llm.config.vocab_size, teacher.llm.config.vocab_size
    problems = []
    if ours != theirs or student.token_ids("a b") != teacher.token_ids("a b"):
        problems.append(
            ("run.distill", f"the teacher has {theirs} tokens and this model {ours}: it needs the same ones")
        )
    if _sizes(student) != _sizes(teacher):
        problems.append(("run.distill", "the teacher has other encoders than this model: it needs the same ones"))
    if problems:
        raise ConfigError("this model cannot be taught by that of run.distill", problems)
    return teacher


def _sizes(model: SALMONN) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the encoders' weights."""
    modules = model.speech_encoder.frozen_modules()
    return [(name, tuple(tensor.shape)) for module in modules for name, tensor in module.state_dict().items()]
