"""Whisper behind the evaluator's contract; `model.path` names its folder or its name on the hub."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transformers import AutoProcessor, WhisperForConditionalGeneration

from evaluator.model import Answer, Request


class Whisper:
    def __init__(self, path: str, device: str, **generate: Any) -> None:
        self.processor = AutoProcessor.from_pretrained(path)
        self.model = WhisperForConditionalGeneration.from_pretrained(path, dtype="float32").to(device).eval()
        self.sampling_rate = self.processor.feature_extractor.sampling_rate
        self.settings = generate

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            audio = request.audio[: 30 * self.sampling_rate]
            features = self.processor(audio, sampling_rate=self.sampling_rate, return_tensors="pt").input_features
            ids = self.model.generate(features.to(self.model.device), **self.settings)[0]
            cut = len(ids) >= self.settings["max_new_tokens"]
            text = self.processor.decode(ids, skip_special_tokens=True).strip()
            yield Answer(request.index, text, len(ids), "length" if cut else "stop")


def load(config: Mapping[str, Any], device: str) -> Whisper:
    return Whisper(config["model"]["path"], "cpu" if device == "auto" else device, **config["generate"])
