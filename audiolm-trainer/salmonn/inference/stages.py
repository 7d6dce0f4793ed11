"""The stages of answering one clip, one after the other: what each takes can be measured apart.

features, whisper, beats, qformer, projection, prompt and step. Each works on what the one before has left, queues its
work on the device and does not wait for it. `prompt` is one forward pass of the language model over the whole prompt up
to the logits of the first token, `step` one further forward pass with the likeliest token and the cache: greedy, with
the language model as it is, without the package's own decoder.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salmonn.frontend.features import Features
from salmonn.gradients import without_gradients
from salmonn.model.beats import BEATs
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import Encoded
from salmonn.quantization.layers import packed_tensors, tensor_bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: of the component.
        run: queues its work.
        weights_bytes: of the weights that only this stage reads: features need none, and the step's are the prompt's.
    """

    name: str
    run: Callable[[], None]
    weights_bytes: int


class ClipStages:
    """One clip on its way through the model.

    Args:
        model: in evaluation mode.
        audio: float32 [N] at the model's sampling rate.
        prompt: filled text with the audio slot once.
    """

    def __init__(self, model: SALMONN, audio: NDArray[np.float32], prompt: str) -> None:
        self.model = model
        self.audio = audio
        self.prompt = prompt
        self._mode = without_gradients(model)
        self._features: Features
        self._whisper: Tensor
        self._encoded: Encoded
        self._attended: Tensor
        self._speech: Tensor
        self._output: Any

    def stages(self) -> list[Stage]:
        """The stages in their order; each can be run again while the one before it is not."""
        encoder = self.model.speech_encoder
        bridge = [encoder.ln_speech, encoder.ln_audio, encoder.qformer]
        name = "beats" if isinstance(encoder.beats, BEATs) else "audio_encoder"
        weights = tensor_bytes(packed_tensors(encoder.beats))
        with_beats = [(name, self._run_beats, weights)] if encoder.beats else []
        parts: list[tuple[str, Callable[[], None], int]] = [
            ("features", self._run_features, 0),
            ("whisper", self._run_whisper, tensor_bytes(packed_tensors(encoder.whisper))),
            *with_beats,
            ("qformer", self._run_qformer, tensor_bytes([*packed_tensors(*bridge), encoder.query_tokens])),
            ("projection", self._run_projection, tensor_bytes(packed_tensors(encoder.projection))),
            ("prompt", self._run_prompt, tensor_bytes(packed_tensors(self.model.llm))),
            ("step", self._run_step, 0),
        ]
        return [Stage(part, self._mode()(run), held) for part, run, held in parts]

    def _run_features(self) -> None:
        encoder = self.model.speech_encoder
        self._features = encoder.front_end([self.audio], encoder.query_tokens.device)

    def _run_whisper(self) -> None:
        encoder = self.model.speech_encoder
        self._whisper = encoder.hear_speech(self._features)
        self._encoded = encoder.without_sounds(self._whisper)

    def _run_beats(self) -> None:
        self._encoded = self.model.speech_encoder.with_sounds(self._whisper, self._features)

    def _run_qformer(self) -> None:
        self._attended = self.model.speech_encoder.attend(self._encoded)

    def _run_projection(self) -> None:
        self._speech = self.model.speech_encoder.project(self._attended, clips=1)

    def _run_prompt(self) -> None:
        embeds = self.model.wrap(self._speech[0], self.prompt)
        self._output = self.model.llm(inputs_embeds=embeds[None], use_cache=True, logits_to_keep=1)

    def _run_step(self) -> None:
        token = self._output.logits[:, -1:].argmax(dim=-1)
        cache = self._output.past_key_values
        self._output = self.model.llm(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)


def peak_activations(run: Callable[[], None], device: torch.device) -> int:
    """Bytes that tensors take at most while something runs, above what was there before.

    On a GPU the allocator counts; on a CPU PyTorch's profiler lists every allocation.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # The profiler's library writes a line about each beginning and end otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = most = 0
    for event in sorted(_allocations(profile), key=lambda event: int(event.start_ns())):
        held += event.nbytes()
        most = max(most, held)
    return most


def _allocations(profile: Any) -> list[Any]:
    return [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
