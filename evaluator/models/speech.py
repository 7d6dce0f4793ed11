"""Asking a speech recogniser: an encoder and a decoder of text such as Whisper, or CTC such as wav2vec 2.0."""

from collections.abc import Sequence
from math import ceil
from typing import Any

from evaluator.model import Answer, Request
from evaluator.models.generated import answers_of, end_ids

_LONG, _SHORT = "long", "short"


class EncoderDecoder:
    """Asks a model whose encoder hears and whose decoder writes.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        processor: its processor.
        settings: its generation configuration.
    """

    def __init__(self, model: Any, processor: Any, settings: Any) -> None:
        self._model, self._processor, self._settings = model, processor, settings
        self._features = processor.feature_extractor
        self._seconds: float | None = getattr(self._features, "chunk_length", None)
        if getattr(settings, "no_timestamps_token_id", None) is None:
            # Long audio is gone through by time tokens; some folders do not say where they begin.
            settings.no_timestamps_token_id = processor.tokenizer.convert_tokens_to_ids("<|notimestamps|>")

    def alike(self, request: Request) -> str:
        """Clips that are longer than the encoder's window are each gone through by the model's own means, alone."""
        rate = self._features.sampling_rate
        is_long = self._seconds is not None and len(request.audio) > self._seconds * rate
        return f"{_LONG} {request.index}" if is_long else _SHORT

    def ask(self, batch: Sequence[Request]) -> list[Answer]:
        """Answer a batch, all of it short, or one long clip."""
        import torch

        long = self.alike(batch[0]) != _SHORT
        whole = {"truncation": False, "padding": "longest"} if long else {} if self._seconds else {"padding": True}
        inputs = self._features(
            [each.audio for each in batch],
            sampling_rate=self._features.sampling_rate,
            return_tensors="pt",
            return_attention_mask=True,
            **whole,
        ).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            found = self._model.generate(
                **inputs, generation_config=self._settings, **({"return_timestamps": True} if long else {})
            )
        ids = getattr(found, "sequences", found)
        # Of a long clip the limit holds for each window.
        windows = ceil(len(batch[0].audio) / (self._seconds * self._features.sampling_rate)) if self._seconds else 1
        return answers_of(
            batch,
            ids.tolist(),
            ends=end_ids(self._settings),
            pad=self._settings.pad_token_id,
            most=self._settings.max_new_tokens * windows,
            decode=lambda row: str(self._processor.tokenizer.decode(row, skip_special_tokens=True)),
        )


class Ctc:
    """Asks a model that says a letter or nothing at each frame.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        processor: its processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model, processor
        self._features = processor.feature_extractor
        # A model that was trained without a mask hears padding: only clips of one length can share a batch.
        self._masked = bool(getattr(self._features, "return_attention_mask", False))

    def alike(self, request: Request) -> str:
        """What may share a batch."""
        return "" if self._masked else str(len(request.audio))

    def ask(self, batch: Sequence[Request]) -> list[Answer]:
        """Answer a batch."""
        import torch

        inputs = self._features(
            [each.audio for each in batch],
            sampling_rate=self._features.sampling_rate,
            return_tensors="pt",
            padding=True,
            return_attention_mask=self._masked,
        ).to(self._model.device, dtype=self._model.dtype)
        with torch.inference_mode():
            frames = self._model(**inputs).logits.argmax(-1)
        lengths = self._frames([len(each.audio) for each in batch], inputs, frames.shape[1])
        decode = self._processor.tokenizer.decode
        texts = [
            str(decode(row[:length], skip_special_tokens=True)) for row, length in zip(frames, lengths, strict=True)
        ]
        return [Answer(each.index, text.strip(), len(text), "stop") for each, text in zip(batch, texts, strict=True)]

    def _frames(self, samples: list[int], inputs: Any, most: int) -> list[int]:
        """How many frames of each clip are its own."""
        if not self._masked:
            return [most] * len(samples)
        import torch

        lengths = inputs["attention_mask"].sum(-1).cpu()
        found = getattr(self._model, "_get_feat_extract_output_lengths", None) or getattr(
            self._model, "_get_subsampling_output_length", None
        )
        if found is None:
            return [most] * len(samples)
        return [int(length) for length in torch.as_tensor(found(lengths))]
