"""The parts of an audio file: one as a rule, several where files were joined into one, each with a header of its own.

In: the bytes of a file and the ending of its name. Out: where each part lies, what of its header is not to be believed,
and what is odd about it. Decoders stop at the end of the first part and say nothing, and they take a size of 0 that a
stream could not fill in for the truth. This file is the same in both programs but for the package's name.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from salmonn.audio.bytes import FileBytes
from salmonn.audio.mp3_frames import MP3_SUFFIXES, find_sync, mp3_part_end, skip_tags

_FAR = 64 << 20
"""A part that begins later than this behind the last one's samples is not looked for."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file that decodes by itself.

    Attributes:
        start: its first byte.
        end: the first byte behind it.
        patches: (place in the file, bytes that the header should have there), for sizes that were never filled in.
        prefix: what is to be put in front of it.
        skip: samples of a channel that come of the prefix.
        frames: samples of a channel where they were counted because the header cannot be believed; None otherwise.
        states_length: whether a header says how long it is, so that less than that is worth a warning.
        raw: the encoding, such as "ULAW", of a file without any header, which its name alone tells.
        unpacked: a FLAC stream that was taken out of its Ogg pages, which libsndfile does not read; None otherwise.
        warning: what is odd about it, as a clause to put after the file's name.
    """

    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    prefix: bytes = b""
    skip: int = 0
    frames: int | None = None
    states_length: bool = True
    raw: str | None = None
    unpacked: bytes | None = None
    warning: str | None = None


# Endings that say what a file without header holds; libsndfile has the same list. All are 8 kHz, one channel.
_RAW = {".gsm": "GSM610", ".vox": "VOX_ADPCM", ".au": "ULAW", ".snd": "ULAW"}
RAW_RATE = 8000


def find_parts(data: FileBytes, suffix: str, seconds: float) -> Iterator[Part]:
    """Yield the parts of a file, the first one always; the next one is looked for when it is asked for.

    Args:
        data: the file.
        suffix: the ending of its name, used only where its content says nothing.
        seconds: how much of the file will be heard; what lies far behind that is not looked at.
    """
    part: Part | None = _part_at(data, 0, seconds) or _by_name(data, suffix.lower(), seconds)
    while part is not None:
        yield part
        part = _part_at(data, part.end, seconds) if part.end < data.size else None


def _part_at(data: FileBytes, start: int, seconds: float) -> Part | None:
    """The part that begins at a place; None where nothing known does."""
    first = skip_tags(data, start)
    head = data.at(first, 64)
    if head.startswith(b"fLaC"):
        return _flac(data, start, seconds)
    # Decoders of the other formats know no tags in front, or stop at them.
    if head.startswith(b"OggS"):
        return _ogg(data, first, seconds)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wave(data, first)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(data, first)
    if head[:4] == b".snd":
        return _au(data, first)
    if head[:4] == b"caff":
        return _caf(data, first)
    if head.startswith(_W64_RIFF):
        return _w64(data, first)
    return _mp3(data, start, seconds) if find_sync(data, first, first + 1) == first else None


def _by_name(data: FileBytes, suffix: str, seconds: float) -> Part:
    """The only part of a file whose beginning says nothing: an MP3 behind junk, samples without header, or unknown."""
    whole = Part(0, data.size)
    if suffix in MP3_SUFFIXES:
        place = find_sync(data, 0, data.size)
        return whole if place is None else _mp3(data, place, seconds)
    # What a failed download leaves is text, whatever it is called; silence as samples is not.
    text = not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", data.at(0, 512))
    return replace(whole, raw=_RAW[suffix], states_length=False) if suffix in _RAW and not text else whole


def _mp3(data: FileBytes, start: int, seconds: float) -> Part:
    found = mp3_part_end(data, start, seconds)
    following = None
    if found.last is not None and found.end == data.size:
        following = _next_part(data, found.last, data.size)
    return Part(
        found.begin,
        following or found.end,
        prefix=found.prefix,
        skip=found.skip,
        frames=found.frames,
        states_length=found.stated,
        warning=found.warning,
    )


_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
# What files begin with, and what stands 8 bytes behind that; tags are followed by a stream that is looked at.
_BEGINNINGS = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), b"WAVE"),
    **dict.fromkeys((b"FORM",), b"AIF"),
    **dict.fromkeys((b".snd\0\0", b"caff\0\1\0\0desc", _W64_RIFF, b"OggS\0\2"), b""),
    **dict.fromkeys((b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22", b"ID3\2\0", b"ID3\3\0", b"ID3\4\0"), b""),
}


def _next_part(data: FileBytes, start: int, end: int) -> int | None:
    """Where another file begins in [start, end), whatever its format; MP3 only at the start or behind a tag."""
    if start < end and find_sync(data, start, start + 1) == start:
        return start
    return _next_marked(data, start, end)


def _next_marked(data: FileBytes, start: int, end: int) -> int | None:
    """Where a file that begins with a mark of its own does so in [start, end)."""
    place = data.find_any(tuple(_BEGINNINGS), start, end)
    while place is not None and not _begins(data, place):
        place = data.find_any(tuple(_BEGINNINGS), place + 1, end)
    return place


def _begins(data: FileBytes, place: int) -> bool:
    tags_end = skip_tags(data, place)
    if tags_end > place and find_sync(data, tags_end, tags_end + 1) is not None:
        return True
    head = data.at(tags_end, 16)
    found = [more for text, more in _BEGINNINGS.items() if head.startswith(text) and not text.startswith(b"ID3")]
    return any(head[8:].startswith(more) for more in found)


def _flac(data: FileBytes, start: int, seconds: float) -> Part:
    """A FLAC stream does not say where its bytes end: it ends where the mark of another file stands."""
    place = skip_tags(data, start)
    head = data.at(place, 42)
    if len(head) < 42:
        return Part(start, data.size)
    packed = int.from_bytes(head[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    count = packed & (1 << 36) - 1
    # The largest number stands for "not known", as 0 does, which decoders understand.
    unknown = count in (0, (1 << 36) - 1)
    patches = ((place + 21, bytes([head[21] & 0xF0, 0, 0, 0, 0])),) if count and unknown else ()
    if rate and seconds * rate < count and not unknown:
        return Part(start, data.size)
    # Without compression that much is heard within so many bytes.
    heard = int(seconds * rate + rate) * channels * (bits // 8 + 1) + (1 << 20)
    # Its header blocks may keep those of the WAV that it was made of, which are no other file.
    samples = place + 4
    while len(block := data.at(samples, 4)) == 4:
        samples += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            break
    following = _next_marked(data, samples, min(data.size, samples + heard))
    return Part(start, data.size if following is None else following, patches, states_length=not unknown)


_OGG_PAGE = re.compile(rb"OggS\x00")
_OGG_BEGINS = 2
_OGG_FLAC = b"\x7fFLAC"
_OGG_FLAC_BYTES = 9
"""Of the mark and version in front of what a FLAC file begins with."""


class _Page(NamedTuple):
    """A page of an Ogg file: where it, its packets and the next one begin, whether a stream begins with it."""

    start: int
    body: int
    end: int
    begins: bool
    serial: bytes
    granule: int


def _pages(data: FileBytes, start: int, end: int) -> Iterator[_Page]:
    place: int | None = start
    while place is not None and place < end:
        head = data.at(place, 27 + 255)
        if head[:5] != b"OggS\0" or len(head) < 27:
            place = data.find(_OGG_PAGE, place + 1, end, longest=5)
            continue
        body = place + 27 + head[26]
        behind = body + sum(head[27 : 27 + head[26]])
        granule = int.from_bytes(head[6:14], "little", signed=True)
        yield _Page(place, body, behind, bool(head[5] & _OGG_BEGINS), head[14:18], granule)
        place = behind


def _ogg(data: FileBytes, start: int, seconds: float) -> Part:
    """A link of an Ogg chain ends where a stream begins after the pages of others."""
    inside = False
    end = data.size
    first: _Page | None = None
    last = start
    for page in _pages(data, skip_tags(data, start), min(data.size, start + _FAR)):
        if page.begins and inside:
            end = page.start
            break
        first = first or page
        last = page.end
        inside = inside or not page.begins
    else:
        end = _next_part(data, last, min(data.size, last + _FAR)) or data.size
    if first is None or data.at(first.body, 5) != _OGG_FLAC:
        return Part(start, end, states_length=False)
    return Part(start, end, states_length=False, unpacked=_flac_of_ogg(data, first, end, seconds))


def _flac_of_ogg(data: FileBytes, first: _Page, end: int, seconds: float) -> bytes:
    """The FLAC stream in Ogg pages, as far as it is heard: its packets one after the other are a FLAC file."""
    stream = bytearray()
    for page in _pages(data, first.start, end):
        if page.serial != first.serial:
            continue
        stream += data.at(page.body, page.end - page.body)
        rate = int.from_bytes(stream[_OGG_FLAC_BYTES + 18 : _OGG_FLAC_BYTES + 21], "big") >> 4
        if page.granule > (seconds + 1) * rate:
            break
    return bytes(stream[_OGG_FLAC_BYTES:])


def _unfilled(size: int) -> bool:
    """Whether a size of 32 bits is what streams write that cannot go back: 0, or about the largest there is."""
    return size == 0 or 0x7FFF0000 <= size <= 0x8000FFFF or size >= 0xFFFF0000


def _samples_end(data: FileBytes, begin: int, stated: int | None) -> tuple[int, int]:
    """Where a container's samples end, and where the part does: at the next file, or with this one.

    Args:
        data: the file.
        begin: the first byte of the samples.
        stated: how many bytes they are; None where that is not known.
    """
    certain = begin if stated is None else min(begin + stated, data.size)
    following = _next_part(data, certain, min(data.size, certain + _FAR))
    end = data.size if following is None else following
    return (end if stated is None else certain), end


def _cut_off(begin: int, stated: int | None, start: int, size: int) -> str | None:
    if stated is None or begin + stated <= size + 1:  # some writers leave out the padding byte of an odd size
        return None
    return f"is cut off: its header states {begin + stated - start} bytes, the file has {size - start}"


def _wave(data: FileBytes, start: int) -> Part:
    """WAV, little or big endian, and its 64-bit forms."""
    order = ">" if data.at(start, 4) == b"RIFX" else "<"
    outer = struct.unpack(f"{order}I", data.at(start + 4, 4))[0]
    large: int | None = None
    place = start + 12
    while len(head := data.at(place, 8)) == 8:
        name, size = head[:4], struct.unpack(f"{order}I", head[4:])[0]
        if name == b"ds64":
            large = place
        elif name == b"data":
            break
        place += 8 + size + size % 2
    else:
        return Part(start, data.size)
    begin = place + 8
    stated: int | None = size
    if large is not None and size == 0xFFFFFFFF:
        stated = struct.unpack("<q", data.at(large + 16, 8))[0]
        stated = None if stated <= 0 else stated
    elif _unfilled(size) and not (size == 0 and _is_chunk(data, begin, order)):
        stated = None
    samples_end, end = _samples_end(data, begin, stated)
    # The whole file's size is the only one that tells when that of the samples was never filled in.
    told = stated if stated is not None or _unfilled(outer) else start + 8 + outer - begin
    warning = _cut_off(begin, told, start, data.size)
    patches: list[tuple[int, bytes]] = []
    if stated is None and samples_end - begin < 0xFFFFFFFF and large is None:
        patches = [(start + 4, struct.pack(f"{order}I", end - start - 8))]
        patches.append((place + 4, struct.pack(f"{order}I", samples_end - begin)))
    elif stated is None and large is not None:
        patches = [(large + 8, struct.pack("<qq", end - start - 8, samples_end - begin))]
    return Part(start, end, tuple(patches), states_length=stated is not None, warning=warning)


def _is_chunk(data: FileBytes, place: int, order: str) -> bool:
    """Whether another chunk stands where samples would, so that there are none indeed."""
    head = data.at(place, 8)
    if len(head) < 8:
        return True
    return head[:4].isalnum() and place + 8 + int(struct.unpack(f"{order}I", head[4:])[0]) <= data.size


def _aiff(data: FileBytes, start: int) -> Part:
    """AIFF and AIFC."""
    common: tuple[int, int, int, int] | None = None
    place = start + 12
    while len(head := data.at(place, 8)) == 8:
        name, size = head[:4], struct.unpack(">I", head[4:])[0]
        if name == b"COMM" and len(data.at(place + 8, 8)) == 8:
            common = (place + 10, *struct.unpack(">hIh", data.at(place + 8, 8)))
        elif name == b"SSND":
            break
        place += 8 + size + size % 2
    else:
        return Part(start, data.size)
    begin = place + 8
    stated = None if _unfilled(size) else size
    samples_end, end = _samples_end(data, begin, stated)
    warning = _cut_off(begin, stated, start, data.size)
    patches: list[tuple[int, bytes]] = []
    if stated is None and common is not None:
        count_at, channels, _, bits = common
        frames = max(0, samples_end - begin - 8) // max(1, channels * ((bits + 7) // 8))
        patches = [(start + 4, struct.pack(">I", end - start - 8)), (count_at, struct.pack(">I", frames))]
        patches.append((place + 4, struct.pack(">I", samples_end - begin)))
    return Part(start, end, tuple(patches), states_length=stated is not None, warning=warning)


def _au(data: FileBytes, start: int) -> Part:
    """AU: samples behind a header that states their place and, mostly, their size."""
    head = data.at(start, 12)
    if len(head) < 12:
        return Part(start, data.size)
    offset, size = struct.unpack(">II", head[4:])
    stated = None if _unfilled(size) else size
    _, end = _samples_end(data, start + offset, stated)
    warning = _cut_off(start + offset, stated, start, data.size)
    patches = () if stated is not None else ((start + 8, struct.pack(">I", max(0, end - start - offset))),)
    return Part(start, end, patches, states_length=stated is not None, warning=warning)


def _caf(data: FileBytes, start: int) -> Part:
    """CAF: its chunk of samples may state -1 for "up to the end"."""
    place = start + 8
    while len(head := data.at(place, 12)) == 12:
        name, size = head[:4], struct.unpack(">q", head[4:])[0]
        if name == b"data" or size < 0:
            break
        place += 12 + size
    else:
        return Part(start, data.size)
    begin = place + 12
    stated = size if size > 0 else None
    samples_end, end = _samples_end(data, begin, stated)
    warning = _cut_off(begin, stated, start, data.size)
    # Decoders refuse a size that the file does not have.
    patches = () if stated == samples_end - begin else ((place + 4, struct.pack(">q", samples_end - begin)),)
    return Part(start, end, patches, states_length=stated is not None, warning=warning)


_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def _w64(data: FileBytes, start: int) -> Part:
    """Sony Wave64: names of 16 bytes, sizes of 64 bits that count their own header."""
    place = start + 40
    while len(head := data.at(place, 24)) == 24:
        name, size = head[:16], struct.unpack("<q", head[16:])[0]
        if name == _W64_DATA or size < 24:
            break
        place += size + -size % 8
    else:
        return Part(start, data.size)
    begin = place + 24
    stated = size - 24 if 24 < size < 1 << 62 else None
    samples_end, end = _samples_end(data, begin, stated)
    warning = _cut_off(begin, stated, start, data.size)
    patches: list[tuple[int, bytes]] = []
    if stated is None:
        patches = [(start + 16, struct.pack("<q", end - start)), (place + 16, struct.pack("<q", samples_end - place))]
    return Part(start, end, tuple(patches), states_length=stated is not None, warning=warning)
