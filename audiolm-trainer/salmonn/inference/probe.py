"""What can be asked of a loaded SALMONN about its cost: whoever measures it holds the clock, the model the answers.

A probe waits for the device, computes an answer's first token alone, and tells memory, settings and size. Nothing here
changes an answer.
"""

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from salmonn.decoding.token_search import Prompt
from salmonn.decoding.transformers_decoding import generate_ids
from salmonn.device import dtype_name
from salmonn.gradients import without_gradients
from salmonn.inference.stages import ClipStages, Stage, peak_activations
from salmonn.model.figures import model_figures
from salmonn.quantization.layers import weights_format

if TYPE_CHECKING:
    from salmonn.inference.inference import Request, SalmonnLM


class Probe:
    """The measurable side of a model that answers.

    Args:
        lm: the model.
    """

    def __init__(self, lm: "SalmonnLM") -> None:
        self.lm = lm
        self.device = lm.model.speech_encoder.query_tokens.device

    def synchronize(self) -> None:
        """Wait until the device has done everything that was asked of it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def reset_peak_memory(self) -> None:
        """Begin the GPU's peak anew, from what is allocated now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def first_token(self, request: "Request") -> bool:
        """Answer one request as far as its first token, by the engine that `generate` uses.

        Args:
            request: one clip and what is asked of it.

        Returns:
            Whether that token is certain to begin the answer. A beam search knows its first token with its last; what
            was computed then is its first step.
        """
        with without_gradients(self.lm.model)():
            prompt = self._prompt(request)
        if self.lm.decoder is None:
            settings = copy(self.lm.settings)
            settings.max_new_tokens = 1
            generate_ids(self.lm.model.llm, [prompt], settings)
        else:
            self.lm.decoder.first_token(Prompt(request.index, prompt))
        return bool(self.lm.settings.num_beams == 1)

    def figures(self, request: "Request") -> dict[str, float]:
        """Parameters, and MACs for one request by part; see `model_figures`."""
        return model_figures(self.lm.model, request.audio, self._filled(request))

    def stages(self, request: "Request") -> list[Stage]:
        """What answering one request greedily takes, in order, each to be run and measured apart; see `stages.py`."""
        return ClipStages(self.lm.model, request.audio, self._filled(request)).stages()

    def activations(self, run: Callable[[], None]) -> int:
        """Bytes that tensors take at most while a stage runs, above what was there before."""
        return peak_activations(run, self.device)

    def settings(self) -> dict[str, str | int | bool]:
        """What the figures hold for: device, dtypes, decoding, attention kernel, threads."""
        model, decoding = self.lm.model, self.lm.settings
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if cuda else str(self.device),
            "encoder_dtype": dtype_name(model.speech_encoder.whisper.conv1.weight.dtype),
            "bridge_dtype": dtype_name(model.speech_encoder.query_tokens.dtype),
            "llm_dtype": dtype_name(model.llm.dtype),
            "llm_weights": weights_format(model.llm),
            "whisper_weights": weights_format(model.speech_encoder.whisper),
            "attention": str(getattr(model.llm.config, "_attn_implementation", None)),
            "engine": "transformers" if self.lm.decoder is None else "own",
            "num_beams": decoding.num_beams,
            "max_new_tokens": decoding.max_new_tokens,
            "do_sample": decoding.do_sample,
            "batch_size": self.lm.batch_size,
            "slots": (self.lm.decoder.slots or 0) if self.lm.decoder else 0,
            "threads": torch.get_num_threads(),
            "cuda": str(torch.version.cuda) if cuda else "none",
        }

    def _filled(self, request: "Request") -> str:
        return self.lm.prompts.prompt(request.task, request.question)

    def _prompt(self, request: "Request") -> Tensor:
        """Encode a request's clip and splice it into its prompt: -> [S, H]."""
        speech = self.lm.model.embed(self.lm.model.encode([request.audio]))
        return self.lm.model.wrap(speech[0], self._filled(request))
