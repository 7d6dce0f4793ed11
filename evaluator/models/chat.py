"""Asking a multimodal language model: a chat with audio, or its processor's own request for a transcript."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.model import Answer, Request
from evaluator.models.generated import answers_of, end_ids
from evaluator.models.prompts import PromptBook

_TRANSCRIBE = "transcribe"


class Chat:
    """Asks a chat model.

    Args:
        model: transformers' model, in evaluation mode, on its device.
        processor: its processor.
        settings: its generation configuration.
        book: the prompts.
        rate: of the audio, in Hz.
        request: further arguments of the processor's request for a transcript: its language, for example.
    """

    def __init__(
        self, model: Any, processor: Any, settings: Any, book: PromptBook, rate: int, request: Mapping[str, Any]
    ) -> None:
        self._model, self._processor, self._settings, self._book = model, processor, settings, book
        self._rate, self._request = rate, dict(request)
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._settings.pad_token_id = tokenizer.pad_token_id
        ask = getattr(processor, "apply_transcription_request", None)
        self._arguments = set(inspect.signature(ask).parameters) if ask is not None else None

    def alike(self, request: Request) -> str:
        """Requests for a transcript are made by the processor, unless the user has a prompt of his own for it."""
        own = self._arguments is not None and request.task == "asr" and not self._book.own
        return _TRANSCRIBE if own else ""

    def ask(self, batch: Sequence[Request]) -> list[Answer]:
        """Answer a batch, all of it alike."""
        import torch

        inputs = self._transcript(batch) if self.alike(batch[0]) == _TRANSCRIBE else self._chat(batch)
        inputs = inputs.to(self._model.device)
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        with torch.inference_mode():
            found = self._model.generate(**inputs, generation_config=self._settings)
        ids = getattr(found, "sequences", found)
        # Encoder-decoder models give new ids alone, all others the prompt before them.
        begin = 0 if self._model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return answers_of(
            batch,
            ids[:, begin:].tolist(),
            ends=end_ids(self._settings),
            pad=self._settings.pad_token_id,
            most=self._settings.max_new_tokens,
            decode=lambda row: str(self._processor.tokenizer.decode(row, skip_special_tokens=True)),
        )

    def _transcript(self, batch: Sequence[Request]) -> Any:
        known = self._arguments or set()
        told = {
            "model_id": getattr(self._model, "name_or_path", ""),
            "sampling_rate": self._rate,
            "format": ["wav"] * len(batch),
            **self._request,
        }
        arguments = {name: value for name, value in told.items() if name in known}
        return self._processor.apply_transcription_request(audio=[each.audio for each in batch], **arguments)

    def _chat(self, batch: Sequence[Request]) -> Any:
        conversations = [
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "audio", "audio": each.audio},
                        {"type": "text", "text": self._book.ask(each.task, each.question)},
                    ],
                }
            ]
            for each in batch
        ]
        return self._processor.apply_chat_template(
            conversations,
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            return_tensors="pt",
            # Not of the audio: each processor knows how its model wants that.
            processor_kwargs={"text_kwargs": {"padding": True}},
        )
