"""LibriSpeech's tree, and those of its layout: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the audio."""

from collections.abc import Iterator
from pathlib import Path

from evaluator.convert.clip_row import Choices, ClipRow, Problems
from evaluator.convert.lines import numbered_lines
from evaluator.wording import shown

ENDING = ".trans.txt"
_SUFFIXES = (".flac", ".wav", ".mp3", ".opus", ".ogg")


def read_librispeech(source: Path, choices: Choices, problems: Problems) -> Iterator[ClipRow]:
    """Read all transcripts below a folder, in the order of their paths; paths start at the folder."""
    for file in sorted(source.rglob(f"*{ENDING}")):
        there = {path.name for path in file.parent.iterdir()}
        for line, text in numbered_lines(file, problems):
            name, _, said = text.partition(" ")
            suffixes = (choices.suffix,) if choices.suffix else _SUFFIXES
            suffix = next((each for each in suffixes if name + each in there), None)
            if suffix is None:
                problems.note(file, line, f"{shown(name)}: there is no {name}{suffixes[0]} beside the transcript")
                continue
            path = (file.parent / (name + suffix)).relative_to(source).as_posix()
            yield ClipRow(name, path, (said,), extra={"speaker": name.partition("-")[0]})
