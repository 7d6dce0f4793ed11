"""MPEG audio (MP3 and its elder layers) frame by frame: where a stream ends, and how long it is.

In: the bytes of a file. Out: the place of the first frame, and where the part that begins there ends: at the header of
another file that was joined to it, behind the frames that its own header counts, or with the file. A decoder believes
the first header and stops. This file is the same in both programs but for the package's name.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from salmonn.audio.bytes import FileBytes

MP3_SUFFIXES = (".mp3", ".mp2", ".mpga", ".mpa", ".mp1")

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)
_AGREEING = 3
"""So many frames in a row are no accident."""
_COUNTING_TAGS = (b"Xing", b"Info")
_SLACK = 10
"""Headers may miscount by a frame or two; more than this is another recording."""
_JUNK = 1 << 16
_FAR = 1 << 20


class Frame(NamedTuple):
    """A frame's header: its length in bytes, samples of a channel, the rate in Hz, and where a header tag would be."""

    length: int
    samples: int
    rate: int
    tag_offset: int


@dataclass(frozen=True, slots=True)
class Mp3Part:
    """What a walk along the frames found.

    Attributes:
        begin: where decoding begins.
        end: first byte behind the part.
        prefix: a silent frame to be put in front where no header states the length in a way that decoders read: they
            guess it from the first frame's size, and stop there; with the smallest one they never stop too early.
        skip: samples of a channel that the prefix decodes to.
        frames: samples of a channel, counted, where no header states them; None otherwise.
        stated: whether a header states the length.
        warning: what is odd, as a clause.
        last: first byte behind the last frame that was seen; None where the walk ended because no more will be heard.
    """

    begin: int
    end: int
    prefix: bytes = b""
    skip: int = 0
    frames: int | None = None
    stated: bool = False
    warning: str | None = None
    last: int | None = None


def skip_tags(data: FileBytes, place: int) -> int:
    """The first byte behind the ID3v2 tags at a place."""
    while len(head := data.at(place, 10)) == 10 and head.startswith(b"ID3") and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    return place


def find_sync(data: FileBytes, start: int, end: int) -> int | None:
    """The first place in [start, end), or soon behind start, where frames follow each other."""
    place: int | None = start
    stop = min(end, start + _FAR)
    while place is not None and place < stop:
        if _frames_follow(data, place):
            return place
        place = data.find(_SYNC, place + 1, min(data.size, stop + 1), longest=2)
    return None


def mp3_part_end(data: FileBytes, start: int, seconds: float) -> Mp3Part:
    """Walk along the frames of the part that begins at a place, as far as it is heard.

    Args:
        data: the file.
        start: of the part, its tags included.
        seconds: how much will be heard.
    """
    first = find_sync(data, skip_tags(data, start), data.size)
    frame = None if first is None else _frame(data.at(first, 4))
    if first is None or frame is None:
        return Mp3Part(start, data.size)
    stated = _stated_frames(data, first)
    begin = first if stated is None else first + frame.length
    walk = _walk(data, begin, int(seconds * frame.rate / frame.samples), stated or 0)
    end, counted = walk.end, walk.counted
    if stated and counted > stated + _SLACK and walk.behind_stated is not None:
        end, counted = walk.behind_stated, stated
    warning = None
    if stated and counted < stated - _SLACK and not walk.goes_on:
        warning = f"is cut off: its header states {stated} MPEG frames, the file has {counted}"
    if stated and data.at(first + frame.tag_offset, 4) in _COUNTING_TAGS:
        return Mp3Part(start, end, stated=True, warning=warning, last=None if walk.goes_on else walk.place)
    if walk.goes_on:  # as long as the rest is like what was seen
        counted = counted * (data.size - begin) // max(1, walk.place - begin)
    prefix = _silent_frame(data.at(begin, 4))
    skip = frame.samples if prefix else 0
    last = None if walk.goes_on else walk.place
    return Mp3Part(begin, end, prefix, skip, (stated or counted) * frame.samples, warning=warning, last=last)


class _Walk(NamedTuple):
    """Where a walk along frames ended.

    Attributes:
        end: first byte behind the part.
        counted: frames on the way.
        place: behind the last one.
        behind_stated: behind as many frames as a header states; None where there were fewer.
        goes_on: whether it ended because no more will be heard.
    """

    end: int
    counted: int
    place: int
    behind_stated: int | None
    goes_on: bool


def _walk(data: FileBytes, place: int, most: int, stated: int) -> _Walk:
    """Walk along at most `most` frames, to the header of another file or the end of the stream."""
    counted, behind_stated = 0, None
    while counted < most:
        if counted == stated:
            behind_stated = place
        found = _frame(data.at(place, 4))
        if found is None or place + found.length > data.size:
            following = _after_junk(data, place)
            if following is None:
                return _Walk(data.size, counted, place, behind_stated, goes_on=False)
            if following.begins_part:
                return _Walk(following.place, counted, place, behind_stated, goes_on=False)
            place = following.place
        elif counted and _stated_frames(data, place) is not None:
            return _Walk(place, counted, place, behind_stated, goes_on=False)
        else:
            counted += 1
            place += found.length
    return _Walk(data.size, counted, place, behind_stated, goes_on=True)


def _silent_frame(header: bytes) -> bytes:
    """The smallest frame of the kind that begins with `header`; it decodes to silence."""
    # Without checksum and padding; all other bits at 0 say that there is nothing to be heard.
    head = bytes([header[0], header[1] | 1, header[2] & 0x0D | 0x10, header[3]])
    frame = _frame(head)
    return b"" if frame is None else head + bytes(frame.length - len(head))


class _Following(NamedTuple):
    place: int
    begins_part: bool


def _after_junk(data: FileBytes, place: int) -> _Following | None:
    """The frame that follows tags or junk; None at the end of the stream. A tag at a file's beginning begins a part."""
    behind_tags = skip_tags(data, place)
    sync = find_sync(data, behind_tags, min(data.size, behind_tags + _JUNK))
    if sync is None:
        return None
    return _Following(place if behind_tags > place else sync, begins_part=behind_tags > place)


def _frames_follow(data: FileBytes, place: int) -> bool:
    """Whether so many frames of one kind stand in a row, or fewer that end with the file."""
    kind = None
    for number in range(_AGREEING):
        head = data.at(place, 4)
        frame = _frame(head)
        if frame is None:
            # The last frames of a file have no others behind them, but a tag of 128 bytes may be.
            return number > 1 and (place >= data.size or head[:3] in (b"TAG", b"APE"))
        if kind is not None and kind != (head[1] & 0xFE, frame.rate):
            return False
        kind = (head[1] & 0xFE, frame.rate)
        place += frame.length
    return place <= data.size


def _frame(head: bytes) -> Frame | None:
    """Read the four bytes of a frame's header; None where they are none, or state no length."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 1 <= bits <= 14 or rate_index == 3:
        return None
    first = version == 3
    rate = _RATES[version][rate_index]
    rate_of_bits = 1000 * _KILOBITS[1 if first else 2, layer][bits - 1]
    padding = head[2] >> 1 & 1
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    if layer == 1:
        return Frame((12 * rate_of_bits // rate + padding) * 4, 384, rate, 4 + side)
    samples = 1152 if first or layer == 2 else 576
    return Frame(samples // 8 * rate_of_bits // rate + padding, samples, rate, 4 + side)


def _stated_frames(data: FileBytes, place: int) -> int | None:
    """How many frames the header tag in a frame counts, 0 if it does not count; None where there is no such tag."""
    frame = _frame(data.at(place, 4))
    if frame is None:
        return None
    for offset in (frame.tag_offset, frame.tag_offset + 2):  # behind a checksum where there is one
        tag = data.at(place + offset, 12)
        if tag[:4] in _COUNTING_TAGS:
            return int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
    tag = data.at(place + 36, 18)
    return int.from_bytes(tag[14:18], "big") if tag[:4] == b"VBRI" else None
