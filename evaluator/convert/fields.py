"""Fields of rows that data sets name differently: the audio, the text, the id, seconds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.annotation.clip_fields import changes_clip
from evaluator.wording import shown

AUDIO = ("audio_filepath", "audio_path", "audio_file", "audio", "wav", "path", "file", "file_name", "filename")
TEXT = ("text", "sentence", "transcription", "transcript", "normalized_text", "caption", "captions", "target")
ID = ("testset_id", "id", "utt_id", "utterance_id", "uid", "key")


def first_of(names: Sequence[str], fields: Mapping[str, Any]) -> str | None:
    """The first of some names that a row has with a value."""
    return next((name for name in names if fields.get(name) is not None), None)


def texts_of(value: object) -> tuple[str, ...] | None:
    """A text, or a list of them; None where it is something else."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    return None


def seconds_of(value: object) -> float | None:
    """A number of seconds from 0, also as a text; None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def further(row: Mapping[str, Any], used: Sequence[str | None]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a row that were not used, and what is wrong with them: some would make another clip of it."""
    extra = {name: value for name, value in row.items() if name not in used}
    wrong = [
        f"{name}: {shown(value)} would change what is heard and cannot be written into an annotation"
        for name, value in extra.items()
        if changes_clip(name, value)
    ]
    return extra, wrong
