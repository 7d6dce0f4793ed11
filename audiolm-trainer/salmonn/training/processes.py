"""The processes a training run is spread over, through 🤗 Accelerate: one, DDP, or FSDP2.

The model is wrapped, gradients are summed over all processes, and all agree on a few numbers. Who started the processes
(`accelerate launch`, `torchrun`, nobody) is found out from the environment.

With "fsdp2" the language model's layers, the bridge and their optimizer state are cut over the processes with PyTorch's
`fully_shard`; the encoders, small beside them, stay whole everywhere. Accelerate itself cuts on GPUs only; called
directly, the same code runs on a CPU, where it is tested.
"""

import os
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from salmonn.errors import ConfigError

T = TypeVar("T")
Parallel = Literal["ddp", "fsdp2"]

_MIXED_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}
# Losses are summed over tokens; divided by this power of two (exact) their gradients stay in float16's range.
LOSS_DIVISOR = 1024
PATIENCE = timedelta(hours=6)
"""How long processes wait for one another: the first one may be reading an annotation or filling a cache meanwhile."""

# DDP's destructor waits for gloo's threads with the interpreter's lock held, and they may be waiting for that lock: a
# process would hang at its very end. So the wrapped model stays until the process is gone, and `train.py` ends hard.
_KEPT: list[nn.Module] = []


class Engine:
    """One process's view of all processes of a run; make one with `start`.

    Args:
        accelerator: Accelerate's own object.
        parallel: how the model is spread over several processes.
    """

    def __init__(self, accelerator: Accelerator, *, parallel: Parallel) -> None:
        self.accelerator = accelerator
        self.sharded = parallel == "fsdp2" and accelerator.num_processes > 1

    @classmethod
    def start(cls, device: torch.device, *, precision: torch.dtype, parallel: Parallel = "ddp") -> "Engine":
        """Join the other processes, if there are any.

        Args:
            device: "cpu" or "cuda"; of several GPU processes each takes its own GPU.
            precision: what the model computes in; float32 switches mixed precision off.
            parallel: how the model is spread over several processes.

        Raises:
            ConfigError: a precision that the device or the way of sharing cannot do.
        """
        if precision == torch.float16 and (device.type == "cpu" or parallel == "fsdp2"):
            where = "on a CPU" if device.type == "cpu" else "with run.parallel fsdp2"
            raise ConfigError(f"run.precision float16 cannot train {where}: use bfloat16 or float32")
        if device.type == "cuda" and "LOCAL_RANK" not in os.environ:
            torch.cuda.set_device(device)
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=_MIXED_PRECISION[precision],
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )
        return cls(accelerator, parallel=parallel)

    @property
    def device(self) -> torch.device:
        """This process's device."""
        device: torch.device = self.accelerator.device
        return torch.device("cpu") if device.type == "cpu" else device

    @property
    def world(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Spread a model, already on its device, over the processes.

        With "fsdp2" the model is changed in place: its parameters become DTensors, so an optimizer is made after this.
        """
        if self.world == 1:
            return model
        if not self.sharded:
            with warnings.catch_warnings():
                # Accelerate hands the option on under the name it had before PyTorch 2.13.
                warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
                # Every process has loaded the same; torchao's tensors cannot be sent.
                packed = [name for name, p in model.named_parameters() if hasattr(p, "__tensor_flatten__")]
                DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
                    model, packed
                )
                wrapped: nn.Module = self.accelerator.prepare_model(model, device_placement=False)
            _KEPT.append(wrapped)
            return wrapped
        return _shard(model)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for what runs inside."""
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def backward(self, loss_sum: Tensor) -> None:
        """Add the gradients of a summed loss; `finish_gradients` makes them those of the mean."""
        self.accelerator.backward(loss_sum / LOSS_DIVISOR)

    @contextmanager
    def synchronised(self, wrapped: nn.Module, *, now: bool) -> Iterator[None]:
        """Exchange gradients at the end of the backward pass inside, or (`now` False) put it off to a later one."""
        if isinstance(wrapped, FSDPModule):
            wrapped.set_requires_gradient_sync(now)
            yield
            return
        context = nullcontext() if now or self.world == 1 else self.accelerator.no_sync(wrapped)
        with context:
            yield

    def finish_gradients(self, parameters: Sequence[nn.Parameter], *, total: int) -> None:
        """Turn exchanged gradients into those of the mean over `total` target tokens of all processes.

        Both ways of sharing average over processes where a sum is wanted.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, self.world * LOSS_DIVISOR / total)

    def clip(self, optimizer: Optimizer, parameters: Sequence[nn.Parameter], max_norm: float) -> None:
        """Scale gradients down to a norm over all processes; 0 leaves them alone."""
        if max_norm > 0:
            self.accelerator.unscale_gradients(optimizer)
            nn.utils.clip_grad_norm_(parameters, max_norm)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add up numbers over all processes, place by place, in float64."""
        if self.world == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        result: list[float] = tensor.tolist()
        return result

    def gather(self, items: Sequence[T]) -> list[T]:
        """Join every process's items, in the order of the processes."""
        joined: list[T] = gather_object(list(items))
        return joined

    def agree(self, value: T) -> T:
        """Give every process the first one's value."""
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def main_first(self) -> AbstractContextManager[None]:
        """Run what is inside in the first process, then in the others."""
        context: AbstractContextManager[None] = self.accelerator.main_process_first()
        return context

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        """Make the parts that only the model's own forward pass would gather usable from outside it."""
        if isinstance(model, FSDPModule):
            model.unshard()
        yield
        if isinstance(model, FSDPModule):
            model.reshard()

    def share(self, items: Sequence[T]) -> list[T]:
        """Take this process's part of a list: contiguous parts, sizes apart by one at most."""
        size, rest = divmod(len(items), self.world)
        start = self.rank * size + min(self.rank, rest)
        return list(items[start : start + size + (self.rank < rest)])

    def peak_memory(self) -> int:
        """Peak bytes of this process: of tensors on a GPU, of everything on a CPU (Linux and macOS)."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        # Linux counts in KiB, macOS in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def close(self) -> None:
        """Leave the other processes; the last thing a run does."""
        self.accelerator.end_training()


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor that is cut over the processes (all of them must call this), detached."""
    detached = tensor.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def cut_like(full: Tensor, like: Tensor) -> Tensor:
    """Cut a whole tensor as another one is cut, on its device."""
    placed = full.to(like.device)
    if not isinstance(like, DTensor):
        return placed
    cut: Tensor = distribute_tensor(placed, like.device_mesh, like.placements)
    return cut


def copy_optimizer_state(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Tensor]]:
    """Return the optimizer's state by parameter name, as whole tensors on the CPU, for any number of processes."""
    state: dict[str, dict[str, Tensor]] = {}
    for name, parameter in parameters.items():
        entries = optimizer.state.get(parameter, {})
        state[name] = {key: full_tensor(value).to("cpu", copy=True) for key, value in entries.items()}
    return state


def restore_optimizer_state(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Put back what `copy_optimizer_state` took."""
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            # AdamW's step count is one number; everything else has the parameter's shape.
            key: cut_like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
            for key, value in state[name].items()
        }


def _shard(model: nn.Module) -> nn.Module:
    """Cut a SALMONN in place: each layer of the language model for itself, the rest of it and the bridge together."""
    whole = {p for module in _frozen_encoders(model) for p in module.parameters()}
    for layer in _decoder_layers(model):
        fully_shard(layer)
    fully_shard(model, ignored_params=whole)
    return model


def _frozen_encoders(model: nn.Module) -> list[nn.Module]:
    encoder = getattr(model, "speech_encoder", None)
    return [] if encoder is None else list(encoder.frozen_modules())


def _decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the language model: the longest list of modules in it."""
    llm = getattr(model, "llm", None)
    stacks = [] if llm is None else [list(m) for m in llm.modules() if isinstance(m, nn.ModuleList)]
    return max(stacks, key=len, default=[])
