"""Remarks of libraries that say nothing to who reads a log, and would bury what does.

transformers and peft import torchao and bitsandbytes wherever they are installed, quantised model or not, and these
tell of kernels for other machines; bitsandbytes' LLM.int8 has the same line for every layer that it computes.
"""

import logging

_SPEAKERS = (
    *("torchao", "torchao.kernel.intmm", "torch.utils._pytree"),
    *("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"),
)


def quiet_libraries() -> None:
    """Let nothing below an error be logged by them, from now on."""
    for name in _SPEAKERS:
        # A filter, because PyTorch sets the levels of its own loggers when it is imported.
        logging.getLogger(name).addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
