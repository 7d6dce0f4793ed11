"""Speech synthesis through libespeak-ng's C interface, with the time of every word and phoneme.

Text and a voice go in; a 16 kHz waveform and timed events come out. Only regenerating the data needs the
library (Debian and Ubuntu: `apt-get install espeak-ng`).
"""

import ctypes
import ctypes.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

SAMPLING_RATE = 16000
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_WORD, _PHONEME = 1, 7


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True, slots=True)
class Voice:
    """How a sentence is spoken: an accent, a variant of the voice, and its prosody."""

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True, slots=True)
class Span:
    """A word or phoneme and where it is heard, in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """A spoken sentence: float32 mono at 16 kHz, silence trimmed from both ends, with its words and phonemes."""

    wave: NDArray[np.float32]
    words: tuple[Span, ...]
    phonemes: tuple[Span, ...]


class Synthesizer:
    """One initialised libespeak-ng; the library keeps global state, so a process has at most one."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise FileNotFoundError("libespeak-ng was not found; install it: apt-get install espeak-ng")
        self._library = ctypes.CDLL(name)
        self._rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self._rate <= 0:
            raise OSError("libespeak-ng could not be initialised; is its data package installed?")
        self._samples: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int, int, str]] = []
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_Info.restype = ctypes.c_char_p
        folder = ctypes.c_char_p()
        self._library.espeak_Info(ctypes.byref(folder))
        self._variants = Path((folder.value or b"").decode()) / "voices" / "!v"

    def variants(self) -> frozenset[str]:
        """Return the names of the voice variants that are installed (case matters)."""
        return frozenset(path.name for path in self._variants.iterdir() if path.is_file())

    def speak(self, text: str, voice: Voice) -> Utterance:
        """Synthesise one sentence.

        Args:
            text: Lower-case words separated by single spaces.
            voice: Accent, variant and prosody.

        Raises:
            ValueError: The accent or the variant is not installed; the library itself ignores a wrong variant.
        """
        if voice.variant not in self.variants():
            raise ValueError(f"espeak-ng has no voice variant {voice.variant!r} in {self._variants}")
        if self._library.espeak_SetVoiceByName(f"{voice.accent}+{voice.variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice.accent!r} with variant {voice.variant!r}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        self._events.clear()
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        native = np.concatenate(self._samples).astype(np.float32) / 32768.0
        return _trim(native, self._rate, self._spans(text, len(native)))

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, event: "ctypes._Pointer[_Event]") -> int:
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while event[index].type != 0:
            item = event[index]
            if item.type == _WORD:
                self._events.append((_WORD, item.sample, item.text_position - 1, ""))
            elif item.type == _PHONEME:
                self._events.append((_PHONEME, item.sample, 0, item.id.string.decode("utf-8", "replace")))
            index += 1
        return 0

    def _spans(self, text: str, total: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        phonemes = [(start, label) for kind, start, _, label in self._events if kind == _PHONEME]
        ends = [start for start, _ in phonemes[1:]] + [total]
        spoken = tuple(
            Span(label, start / self._rate, end / self._rate)
            for (start, label), end in zip(phonemes, ends, strict=True)
            if label and not label.startswith("_") and end > start
        )
        starts = {place: start for kind, start, place, _ in self._events if kind == _WORD}
        return _word_spans(text, starts, self._rate, spoken[-1].end if spoken else total / self._rate), spoken


def _word_spans(text: str, starts: dict[int, int], rate: int, end: float) -> tuple[Span, ...]:
    """Give every word a span; words that the library joins ("in the") share their part evenly."""
    groups: list[tuple[float, list[str]]] = []
    place = 0
    for word in text.split(" "):
        if place in starts or not groups:
            groups.append((starts.get(place, 0) / rate, []))
        groups[-1][1].append(word)
        place += len(word) + 1
    spans = []
    for (start, words), stop in zip(groups, [group[0] for group in groups[1:]] + [end], strict=True):
        edges = np.linspace(start, max(stop, start), len(words) + 1)
        spans += [Span(word, edges[i], edges[i + 1]) for i, word in enumerate(words)]
    return tuple(spans)


def _trim(native: NDArray[np.float32], rate: int, spans: tuple[tuple[Span, ...], tuple[Span, ...]]) -> Utterance:
    """Cut silence below -50 dB of the peak at both ends (20 ms kept) and resample to 16 kHz."""
    loud = np.flatnonzero(np.abs(native) > 0.003 * np.abs(native).max())
    first = max(0, int(loud[0]) - rate // 50)
    last = min(len(native), int(loud[-1]) + rate // 50)
    wave = soxr.resample(native[first:last], rate, SAMPLING_RATE, quality="HQ").astype(np.float32)
    shift, limit = first / rate, (last - first) / rate
    words, phonemes = (
        tuple(Span(s.label, min(max(s.start - shift, 0.0), limit), min(max(s.end - shift, 0.0), limit)) for s in group)
        for group in spans
    )
    return Utterance(wave, words, phonemes)
