"""Audio data sets of the Hugging Face hub on disk: parquet files, or Arrow files as save_to_disk writes them.

Audio that lies in the table is written into a folder, unchanged, as its bytes are; audio that is a path stays one.
Needs pyarrow (pip install pyarrow); the datasets library is not needed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.fields import AUDIO, ID, TEXT, first_of, further, texts_of
from evaluator.errors import ConfigError
from evaluator.wording import shown

ENDINGS = (".parquet", ".arrow")
_BATCH = 64
_ENDING_OF = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"FORM": ".aiff"}


def read_tables(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read all tables of a folder, or one.

    Raises:
        ConfigError: pyarrow is missing, or there is audio in the table and no folder for it.
    """
    files = sorted(path for path in source.rglob("*") if path.suffix in ENDINGS) if source.is_dir() else [source]
    number = 0
    for file in files:
        for row in _rows(file, problems):
            number += 1
            found = _row(row, number, file, choices, problems)
            if found is not None:
                yield found


def _rows(file: Path, problems: Problems) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise ConfigError("Tables are read with pyarrow, which is not installed: pip install pyarrow.") from None
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(_BATCH):
                    yield from batch.to_pylist()
        else:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
                for batch in stream:
                    for start in range(0, batch.num_rows, _BATCH):
                        yield from batch.slice(start, _BATCH).to_pylist()
    except (OSError, pa.ArrowException) as error:
        problems.note(file, None, f"cannot be read as a table: {error}")


def _row(row: dict[str, Any], number: int, file: Path, choices: Choices, problems: Problems) -> ClipRow | None:
    audio = next((name for name, value in row.items() if isinstance(value, dict) and "bytes" in value), None)
    audio = audio or first_of(AUDIO, row)
    text, name = first_of(TEXT, row), first_of(ID, row)
    texts = texts_of(row[text]) if text else ()
    if audio is None or texts is None:
        expected = "a column with audio" if audio is None else f"{text}: a text"
        problems.note(file, None, f"row {number}: expected {expected}, found {shown({**row, audio or '': '...'})}")
        return None
    path = _path(row[audio], number, choices)
    extra, wrong = further(row, [audio, text, name, *(AUDIO if audio not in AUDIO[5:] else ())])
    for message in wrong:
        problems.note(file, None, f"row {number}: {message}")
    if path is None:
        problems.note(file, None, f"row {number}: {audio}: neither bytes nor a path")
        return None
    plain = {key: value for key, value in extra.items() if isinstance(value, (str, int, float, bool))}
    return ClipRow(str(row[name]) if name else path, path, texts, extra=plain)


def _path(audio: Any, number: int, choices: Choices) -> str | None:
    """Where a row's audio lies, once it does."""
    data = audio.get("bytes") if isinstance(audio, dict) else None
    named = audio.get("path") if isinstance(audio, dict) else audio
    if not data:
        return named if isinstance(named, str) and named else None
    if choices.audio is None:
        raise ConfigError("The audio lies in the table: --audio FOLDER says where to write it.")
    # A name alone, whatever folders or dots the table says, and with the row's number no other row's.
    stem = Path(named).name if isinstance(named, str) and named else ""
    ending = next((each for begins, each in _ENDING_OF.items() if data.startswith(begins)), ".bin")
    name = f"{number - 1:07d}" + (f"-{stem}" if stem else ending)
    choices.audio.mkdir(parents=True, exist_ok=True)
    (choices.audio / name).write_bytes(data)
    return name
