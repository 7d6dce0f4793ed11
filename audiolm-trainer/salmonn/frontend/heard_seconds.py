"""How much of a clip a model hears, told by the settings of Whisper's feature extractor before anything is loaded."""

import json
from pathlib import Path

from salmonn.audio.reading import MAX_SECONDS

SETTINGS = "preprocessor_config.json"


def heard_seconds(whisper_path: str) -> float | None:
    """Seconds of a clip that are heard; None where the file is not here, or is none that tells.

    Args:
        whisper_path: Whisper's folder, or its name on the hub.

    Example:
        A `chunk_length` of 10 -> 10.0, one of 60 -> 30.0, which is what every clip is cut to.
    """
    try:
        settings = json.loads((Path(whisper_path) / SETTINGS).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    # What the extractor itself takes where nothing is said.
    length = settings.get("chunk_length", MAX_SECONDS) if isinstance(settings, dict) else None
    if not isinstance(length, (int, float)) or isinstance(length, bool) or length <= 0:
        return None
    return min(float(length), float(MAX_SECONDS))
