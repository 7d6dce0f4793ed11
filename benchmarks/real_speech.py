"""The training set of `real_parts.py`: real sentences, real sentences joined, and sentences that espeak-ng speaks.

A few hundred sentences are learned by heart before a model learns to listen, and so is which word follows which. So
their words are also drawn one by one, spoken by a machine at the same rate of 8 kHz, mostly few at a time: then nothing
but the sound tells the next word. In go an annotation and a folder; out comes an annotation of the trainer.
"""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import soundfile
import soxr

LONGEST = 15.0
"""Seconds that the model hears; longer clips are left out."""
JOINED, SPOKEN = 100, 1500
WORDS = (1, 1, 1, 2, 2, 3, 4, 6)
"""Words of a spoken sentence; one of these numbers is drawn."""
VOICES = ("en-us+f1", "en-us+f2", "en-us+f3", "en-us+f4", "en-us+f5", "en-us+m3", "en-us", "en-us+Annie")
RATE = 8000
STOPS = '.,!?;:()"'


def write_training_set(source: Path, folder: Path) -> Path:
    """Write the annotation and the spoken sentences; returns the annotation.

    Args:
        source: the annotation of the real sentences, with the field `seconds`.
        folder: gets train.json and spoken/; where train.json is, nothing is made.
    """
    annotation = folder / "train.json"
    if annotation.exists():
        return annotation
    found = json.loads(source.read_text(encoding="utf-8"))["annotation"]
    real = [row for row in found if row["seconds"] <= LONGEST]
    drawn = random.Random(0)
    rows = [{key: row[key] for key in ("path", "text", "task")} for row in real]
    rows += [join(real, drawn) for _ in range(JOINED)]
    rows += speak([row["text"] for row in real], folder / "spoken", drawn)
    annotation.write_text(json.dumps({"annotation": rows}, indent=1), encoding="utf-8")
    return annotation


def join(rows: list[dict[str, Any]], drawn: random.Random) -> dict[str, Any]:
    """Join two or three clips that are not too long together, by the annotation's field `expand_wav`."""
    while True:
        chosen = drawn.sample(rows, drawn.choice((2, 2, 3)))
        # 0.1 s of silence lies between them.
        if sum(row["seconds"] + 0.1 for row in chosen) <= LONGEST:
            return {
                "path": chosen[0]["path"],
                "expand_wav": [row["path"] for row in chosen[1:]],
                "text": " ".join(row["text"] for row in chosen),
                "task": "asr",
            }


def speak(texts: list[str], folder: Path, drawn: random.Random) -> list[dict[str, Any]]:
    """Draw words of texts and speak them."""
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted({word.strip(STOPS) for text in texts for word in text.split()} - {""})
    rows = []
    for number in range(SPOKEN):
        words = [drawn.choice(known) for _ in range(drawn.choice(WORDS))]
        path, text = folder / f"{number:04d}.wav", " ".join(words) + "."
        voice, speed, pitch = drawn.choice(VOICES), drawn.randint(135, 185), drawn.randint(40, 65)
        command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), "--", text]
        subprocess.run(command, check=True)
        wave, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, soxr.resample(wave, rate, RATE), RATE)
        if len(wave) / rate <= LONGEST:
            rows.append({"path": str(path), "text": text, "task": "asr"})
    return rows
