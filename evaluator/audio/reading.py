"""Audio read as the original reads it, from whatever libsndfile decodes; joined files are heard one after the other.

In: an open file and its name. Out: what its headers say, or the first channel of its beginning, float32, and from these
the waveform that a model hears. What cannot be used is an `UnusableAudioError` whose text is a clause to put after the
file's name. This file is the same in both programs but for the package's name.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from evaluator.audio.bytes import FileBytes, Window
from evaluator.audio.parts import RAW_RATE, Part, find_parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SECONDS = 30
MIN_SECONDS = 1
SILENCE_SECONDS = 0.1
"""Between clips that an annotation joins to one."""
# The resampler looks ahead: with one second more than is kept, what is kept is as of the whole file.
READ_SECONDS = MAX_SECONDS + 1

MIN_SAMPLING_RATE = 4_000
MAX_SAMPLING_RATE = 384_000
MAX_CHANNELS = 32
LOUDEST = 1e4
_BLOCK_FRAMES = 1 << 16
# Streams without an end mark claim 2**63 - 1 frames; a year of audio is a claim of that kind.
_UNBELIEVABLE_SECONDS = 366 * 24 * 3600
# Where libsndfile goes to a sample and gives what reading on would have given; others are read and dropped.
_EXACT_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"})
_EXACT_CODES = re.compile("PCM_|FLOAT|DOUBLE|ULAW|ALAW")

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a git-lfs pointer, not the audio itself; run `git lfs pull`"),
    (b"\x1f\x8b", "is gzip-compressed; unpack it"),
    (b"PK\x03\x04", "is a zip archive; unpack it"),
    (b"\x89PNG", "is a PNG picture, not audio"),
    (b"\xff\xd8\xff", "is a JPEG picture, not audio"),
    (b"%PDF", "is a PDF document, not audio"),
    (b"\x1a\x45\xdf\xa3", "is a WebM or Matroska file, which is not supported; convert it to FLAC"),
    (b"\x30\x26\xb2\x75", "is a WMA file, which is not supported; convert it to FLAC"),
)


class UnusableAudioError(Exception):
    """A file that cannot be heard; the text is a clause to put after its name: "holds no samples"."""


class Span(NamedTuple):
    """A part of a file in seconds: from the sample nearest to `start` to the one before that nearest to `end`."""

    start: float = 0.0
    end: float = math.inf

    def frames(self, rate: int) -> int:
        """Samples of it that are read, at a rate."""
        if self.end == math.inf:
            return READ_SECONDS * rate
        return min(READ_SECONDS * rate, round(self.end * rate) - round(self.start * rate))


WHOLE = Span()
"""All of a file."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file's headers say.

    Attributes:
        seconds: length; infinite where no header says and it is above what was asked for.
        sampling_rate: in Hz, of the first part.
        channels: how many; the first one is used.
        warning: what is odd about the file, as a clause to put after its name; None if nothing is.
    """

    seconds: float
    sampling_rate: int
    channels: int
    warning: str | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first channel of a file's first READ_SECONDS.

    Attributes:
        samples: float32 [N] at `rate`.
        rate: in Hz.
        warnings: what is odd, as clauses to put after the file's name.
    """

    samples: NDArray[np.float32]
    rate: int
    warnings: tuple[str, ...]


def read_facts(file: BinaryIO, suffix: str, seconds: float = READ_SECONDS) -> Facts:
    """Read the headers; where one does not know its length, what is asked for is decoded.

    Args:
        file: an audio file's bytes, seekable.
        suffix: the ending of its name, for files whose content says nothing.
        seconds: of which it is to be known whether they are there.

    Raises:
        UnusableAudioError: it is no audio, empty, or of a rate or channel count out of bounds.
        OSError: it cannot be read.
    """
    facts: Facts | None = None
    for part in _parts(file, suffix, seconds):
        try:
            with _opened(file, part) as sound:
                found = Facts(_seconds_of(part, sound, seconds), sound.samplerate, sound.channels, part.warning)
        except UnusableAudioError as error:
            if facts is None:
                raise
            facts = replace(facts, warning=facts.warning or _unheard(error))
            break
        if facts is None:
            facts = found
        else:
            facts = replace(facts, seconds=facts.seconds + found.seconds, warning=facts.warning or found.warning)
        if facts.seconds >= seconds:
            break
    assert facts is not None  # a file has a part, or `_parts` raises
    if facts.seconds == 0:
        raise UnusableAudioError("holds no samples (a recording that was not closed has a header like this)")
    return facts


def read_beginning(file: BinaryIO, suffix: str, span: Span = WHOLE) -> Beginning:
    """Decode the first READ_SECONDS of a span over all parts, one after the other, at the rate of the first.

    Args:
        file: an audio file's bytes, seekable.
        suffix: the ending of its name, for files whose content says nothing.
        span: what of the file is heard, as if it were a file of its own.

    Raises:
        UnusableAudioError: as `read_facts`; also if decoding fails, or samples are not finite.
        OSError: it cannot be read.
    """
    import numpy as np

    pieces: list[NDArray[np.float32]] = []
    warnings: list[str] = []
    rate = have = 0
    passed = 0.0
    for part in _parts(file, suffix, min(span.end, span.start + READ_SECONDS)):
        try:
            piece = _piece(file, part, span, passed)
        except UnusableAudioError as error:
            if not rate:
                raise
            warnings.append(_unheard(error))
            break
        rate = rate or piece.rate
        warnings += piece.warnings
        passed += piece.seconds
        pieces.append(resampled(piece.samples, piece.rate, rate))
        have += len(pieces[-1])
        if have >= span.frames(rate):
            break
    samples = np.concatenate(pieces)[: span.frames(rate)]
    if not len(samples):
        where = f"after {span.start:g} s" if span.end == math.inf else f"between {span.start:g} s and {span.end:g} s"
        nothing = "can be decoded" if span == WHOLE else f"lie {where}"
        raise UnusableAudioError(f"holds no samples that {nothing}")
    if not np.isfinite(samples).all():
        raise UnusableAudioError("holds samples that are not numbers (NaN or infinite)")
    if np.abs(samples).max() > LOUDEST:
        warnings.append(f"has samples beyond +-{LOUDEST:g}, where +-1 is full scale")
    return Beginning(samples, rate, tuple(warnings))


class _Piece(NamedTuple):
    """What a part gives of a span: float32 [N] at a rate, and the seconds of the part up to its last sample."""

    samples: NDArray[np.float32]
    rate: int
    seconds: float
    warnings: tuple[str, ...]


def _piece(file: BinaryIO, part: Part, span: Span, passed: float) -> _Piece:
    """Read a part, which begins `passed` seconds after the beginning of the file."""
    with _opened(file, part) as sound:
        rate, stated = sound.samplerate, sound.frames
        ahead = round(max(0.0, span.start - passed) * rate)
        end = ahead + span.frames(rate)
        is_stated = _is_stated(part, stated, rate)
        # What lies behind the stated end, tags for example, would be an error to the decoder.
        end = min(stated, end) if is_stated else end
        samples, seen = _first_channel(sound, part.skip + end, drop=part.skip + min(ahead, end))
    seen -= part.skip
    short = is_stated and seen < end
    warnings = (f"ends after {seen} of the {stated} samples its header states",) if short else ()
    return _Piece(samples, rate, seen / rate, warnings)


def waveform(clips: Sequence[Beginning], target: int) -> NDArray[np.float32]:
    """What a model hears of a clip, or of several that an annotation joins, with 0.1 s of silence between them.

    Args:
        clips: at least one.
        target: the rate wanted, in Hz.

    Returns:
        float32 [N], N from `target` (one second) to 30 x `target`.

    Example:
        2.3 s at 8 kHz (18400 samples), wanted at 16 kHz -> 36800 samples. 0.4 s -> one second, the rest silence.
    """
    import numpy as np

    rate = clips[0].rate if all(clip.rate == clips[0].rate for clip in clips) else target
    silence = np.zeros(round(SILENCE_SECONDS * rate), np.float32)
    joined = [resampled(clips[0].samples, clips[0].rate, rate)]
    for clip in clips[1:]:
        joined += [silence, resampled(clip.samples, clip.rate, rate)]
    samples = np.concatenate(joined)[: READ_SECONDS * rate] if len(joined) > 1 else joined[0]
    return resampled(padded(samples, rate), rate, target)[: MAX_SECONDS * target]


def padded(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Append zeros up to one second: [n] -> [max(n, rate)]."""
    import numpy as np

    return np.pad(samples, (0, max(0, MIN_SECONDS * rate - len(samples))))


def resampled(samples: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    """soxr HQ, then zeros up to the length that librosa gives: soxr alone is sometimes one sample short."""
    import numpy as np

    if rate == target or not len(samples):
        return samples
    import soxr

    # In floating point as librosa does, which can round up where exact arithmetic would not.
    length = math.ceil(len(samples) * (float(target) / rate))
    # The filter overshoots: near the largest float32 that is more than there is. A power of 2 rounds nothing.
    scale = np.float32(2.0**-64 if np.abs(samples).max() > 2.0**64 else 1)
    result = np.asarray(soxr.resample(samples * scale, rate, target, quality="HQ"), dtype=np.float32)[:length]
    if scale != 1:
        largest = np.finfo(np.float32).max
        result = np.clip(result, -largest * scale, largest * scale) / scale
    return np.pad(result, (0, length - len(result)))


def _parts(file: BinaryIO, suffix: str, seconds: float) -> Iterator[Part]:
    """The parts of a file that does not begin like something else.

    Raises:
        UnusableAudioError: it is empty, or something that is known.
    """
    data = FileBytes(file)
    problem = _known_problem(data.at(0, 512))
    if problem:
        raise UnusableAudioError(problem)
    yield from find_parts(data, suffix, seconds)


def _known_problem(head: bytes) -> str | None:
    if not head:
        return "is an empty file"
    for signature, clause in _SIGNATURES:
        if head.startswith(signature):
            return clause
    if head[4:8] == b"ftyp":
        return "is an MP4 or M4A file, which is not supported; convert it to FLAC"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page, not audio: probably what a failed download left"
    return None


@contextlib.contextmanager
def _opened(file: BinaryIO, part: Part) -> Iterator[Any]:
    """A soundfile.SoundFile of a part whose header is within bounds; it is read from its beginning to its end."""
    import soundfile

    raw = {} if part.raw is None else {"format": "RAW", "subtype": part.raw, "samplerate": RAW_RATE, "channels": 1}
    window = Window(file, part.start, part.end, patches=part.patches, prefix=part.prefix)
    try:
        with _forward()(_source(file, part, window), closefd=False, **raw) as sound:
            _check_header(sound)
            yield sound
    except soundfile.LibsndfileError as error:
        if window.error is not None:
            raise window.error from error
        file.seek(part.start)
        raise UnusableAudioError(_described(error, file.read(512))) from error
    if window.error is not None:
        raise window.error


@functools.cache
def _forward() -> Any:
    """A SoundFile that reads on and never seeks, which streams that state no length refuse at their end."""
    import soundfile

    return type("ForwardSoundFile", (soundfile.SoundFile,), {"seekable": lambda self: False})


def _source(file: BinaryIO, part: Part, window: Window) -> int | BinaryIO | Window:
    """A descriptor where the part is the whole file, which spares Python a part in reading; otherwise the window."""
    if part.unpacked is not None:
        return io.BytesIO(part.unpacked)
    if part.start or part.patches or part.prefix or part.end != file.seek(0, os.SEEK_END):
        return window
    try:
        descriptor = file.fileno()
    except OSError:
        return window
    os.lseek(descriptor, 0, os.SEEK_SET)  # the buffer's own seek would leave the descriptor where it is
    return descriptor


def _check_header(sound: Any) -> None:
    if not MIN_SAMPLING_RATE <= sound.samplerate <= MAX_SAMPLING_RATE:
        limits = f"{MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz"
        raise UnusableAudioError(f"has a sampling rate of {sound.samplerate} Hz; {limits} can be read")
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise UnusableAudioError(f"has {sound.channels} channels; 1 to {MAX_CHANNELS} can be read")


def _is_stated(part: Part, frames: int, rate: int) -> bool:
    """Whether a header states a length that can be believed."""
    return part.states_length and frames / rate <= _UNBELIEVABLE_SECONDS


def _unheard(error: UnusableAudioError) -> str:
    return f"holds more than one recording, and the rest is not heard: it {error}"


def _seconds_of(part: Part, sound: Any, most: float) -> float:
    if part.frames is not None:
        return float(part.frames / sound.samplerate)
    seconds = float(sound.frames / sound.samplerate)
    if seconds <= _UNBELIEVABLE_SECONDS:
        return seconds
    limit = int(most * sound.samplerate)
    frames = _first_channel(sound, limit, drop=limit)[1]
    return frames / sound.samplerate if frames < limit else math.inf


def _first_channel(sound: Any, limit: int, *, drop: int) -> tuple[NDArray[np.float32], int]:
    """Channel 0 of the frames from `drop` to `limit`, and the frame behind the last one.

    It is read in blocks: what a header claims is never allocated.
    """
    import numpy as np

    blocks = [np.zeros(0, np.float32)]
    frames = 0
    if drop and _seeks_exactly(sound) and drop <= sound.frames:
        frames = sound.seek(drop)
    while frames < limit:
        block = sound.read(min(_BLOCK_FRAMES, limit - frames), dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        if frames + len(block) > drop:
            blocks.append(block[max(0, drop - frames) :, 0].copy())
        frames += len(block)
    return np.concatenate(blocks), frames


def _seeks_exactly(sound: Any) -> bool:
    believable = sound.frames / sound.samplerate <= _UNBELIEVABLE_SECONDS
    return believable and sound.format in _EXACT_FORMATS and _EXACT_CODES.match(sound.subtype) is not None


def _described(error: Exception, head: bytes) -> str:
    text = str(getattr(error, "error_string", error)).strip().rstrip(".")
    if "ormat not recognised" not in text and "does not exist or is not a regular file" not in text:
        return f"cannot be decoded: {text}"
    with contextlib.suppress(UnicodeDecodeError):
        # Incremental, because the head may end inside a character.
        text_head = codecs.getincrementaldecoder("utf-8")().decode(head)
        if not re.search(r"[\x00-\x08\x0e-\x1f]", text_head):
            return "is text, not audio"
    return "is not audio in a format that can be read (WAV, FLAC, OGG, Opus, MP3, ...)"
