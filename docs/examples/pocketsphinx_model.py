"""CMU Sphinx behind the contract: a recogniser for English whose model comes with `pip install pocketsphinx`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from pocketsphinx import Decoder

from evaluator.model import Answer, Request


class Sphinx:
    sampling_rate = 16000

    def generate(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            # A decoder adapts to what it hears: a new one for each clip, so that no clip depends on those before it.
            decoder = Decoder(loglevel="FATAL")
            decoder.start_utt()
            decoder.process_raw((request.audio * 32767).astype(np.int16).tobytes(), full_utt=True)
            decoder.end_utt()
            text = decoder.hyp().hypstr if decoder.hyp() else ""
            yield Answer(request.index, text, len(text.split()), "stop")


def load(config: Mapping[str, Any], device: str) -> Sphinx:
    return Sphinx()
