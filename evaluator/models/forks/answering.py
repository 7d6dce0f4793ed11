"""A fork's model behind the contract, asked as the original evaluator asked it.

In: the loaded model of a checkout (`encode_speech`, `prompt_wrap`, `llama_model`, `llama_tokenizer`), prompts and
generation settings. Out: answers. Clips are taken one at a time: in a batch the original's text depends on the
neighbours, and alone it is what the original gives for a batch of one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from evaluator.errors import ContractError
from evaluator.model import Answer, Request
from evaluator.models.forks.prompt_file import filled
from evaluator.models.forks.surroundings import foreign_code

SAMPLING_RATE = 16_000
DEFAULTS: Mapping[str, Any] = {
    "max_new_tokens": 200,
    "num_beams": 4,
    "do_sample": False,
    "min_length": 1,
    "temperature": 1.0,
    "top_p": 0.9,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
}
"""What the original asks `generate` for."""


class ForkLM:
    """A loaded model of a fork.

    Args:
        model: it, on its device.
        extractor: Whisper's feature extractor.
        prompts: task -> prompt.
        config: the sections "model", "generate" and "run".
        device: the torch.device.
    """

    sampling_rate = SAMPLING_RATE

    def __init__(
        self, model: Any, extractor: Any, prompts: Mapping[str, str], config: Mapping[str, Any], device: Any
    ) -> None:
        self._model, self._extractor, self._prompts, self._device = model, extractor, prompts, device
        self._template = str(config["model"].get("prompt_template") or "")
        asked = {name: value for name, value in config["generate"].items() if value is not None}
        self._settings = {name: asked.get(name, value) for name, value in DEFAULTS.items()}
        self._end = str(asked.get("end_sym") or config["model"].get("end_sym") or "")
        self._seed = int(config["run"].get("seed") or 0)
        self._ends = _end_ids(model.llama_model)

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answer each clip by itself, in the order of the requests."""
        for request in requests:
            with foreign_code(self._device):
                answer = self._answer(request)
            yield answer

    def peak_memory(self) -> int | None:
        """The most bytes of the GPU that were in use; None on a CPU."""
        import torch

        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None

    def _answer(self, request: Request) -> Answer:
        import torch

        if self._settings["do_sample"]:
            # Of a clip alone, so that its answer does not depend on those before it.
            torch.manual_seed(self._seed + request.index)
        half = torch.autocast("cuda", torch.float16, enabled=self._device.type == "cuda")
        with torch.no_grad(), half:
            embeds, attention = self._prompted(request)
            rows = self._model.llama_model.generate(
                inputs_embeds=embeds, attention_mask=attention, pad_token_id=self._ends[0], **self._settings
            )
        return self._read(request.index, rows[0].tolist())

    def _prompted(self, request: Request) -> tuple[Any, Any]:
        """What the language model is given: [1, T, H] and its mask [1, T], with the BOS in front."""
        import torch

        model, audio = self._model, request.audio
        features = self._extractor(audio, sampling_rate=SAMPLING_RATE, return_tensors="pt")["input_features"]
        # The original's waves are float64, in which its filter bank then computes.
        wave = torch.from_numpy(audio.astype(np.float64))[None].to(self._device)
        heard, mask = model.encode_speech(
            features.to(self._device), raw_wav=wave, audio_padding_mask=torch.zeros_like(wave, dtype=torch.bool)
        )
        prompt = filled(self._prompts[request.task], request.question, self._template)
        embeds, attention = model.prompt_wrap(heard, mask, [prompt], multi_prompt=True)
        if embeds.shape[:2] != attention.shape or len(embeds) != 1:
            shapes = f"{tuple(embeds.shape)} and {tuple(attention.shape)}"
            raise ContractError(f"The fork's prompt_wrap gave {shapes} for one clip, not [1, T, H] and [1, T].")
        begin = torch.tensor([[model.llama_tokenizer.bos_token_id]], device=embeds.device)
        first = model.llama_model.get_input_embeddings()(begin)
        return torch.cat([first.to(embeds.dtype), embeds], 1), torch.cat([attention[:, :1], attention], 1)

    def _read(self, index: int, ids: list[int]) -> Answer:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        ids = ids if end is None else ids[:end]
        text = str(self._model.llama_tokenizer.decode(ids, skip_special_tokens=True))
        before, mark, _ = text.partition(self._end) if self._end else (text, "", "")
        cut = end is None and not mark and len(ids) >= self._settings["max_new_tokens"]
        return Answer(index, before.strip(), len(ids), "length" if cut else "stop")


def _end_ids(language_model: Any) -> list[int]:
    """The ids that end an answer, of the generation settings or the configuration; the original pads with the first."""
    for settings in (getattr(language_model, "generation_config", None), language_model.config):
        found = getattr(settings, "eos_token_id", None)
        if found is not None:
            return list(found) if isinstance(found, (list, tuple)) else [int(found)]
    raise ContractError("The fork's language model has no eos_token_id: nothing would end an answer.")
