"""Makes all audio of the recipe: the pretraining corpora, the training set of the last stage, and data/sample.

Fixed seeds go in; nano/build/data/ (not kept in the repository) and data/sample/ come out. Needs espeak-ng. Its
samples differ slightly from call to call, so a second run gives equivalent data, not the same bytes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from nano.captions import RELATIONS, draw_caption, draw_references
from nano.corpus import read_corpus, to_int16, write_corpus
from nano.espeak import SAMPLING_RATE, Span, Synthesizer, Voice
from nano.scenes import LABELS, Scene, draw_events, make_scene, place_speech
from nano.sentences import draw_sentence
from nano.voices import draw_trained_voice, draw_unseen_voice, is_trained

Wave = NDArray[np.float32]
ASR_TASK, AAC_TASK = "asr", "audiocaption_v2"
SAMPLE_SPEECH, SAMPLE_UNSEEN = 100, 60
SAMPLE_SINGLE_PER_LABEL, SAMPLE_THEN, SAMPLE_OVER = 2, 20, 20


def speech_clips(seed: int, count: int) -> Iterator[tuple[Wave, dict[str, Any]]]:
    """Make utterances of training sentences by training voices, with the times of words and phonemes."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    for _ in range(count):
        sentence, voice = draw_sentence(rng, held_out=False), draw_trained_voice(rng)
        utterance = synthesizer.speak(sentence, voice)
        wave, lead = place_speech(utterance.wave, noise)
        labels = {
            "text": sentence,
            "words": _timed(utterance.words, lead),
            "phonemes": _timed(utterance.phonemes, lead),
        }
        yield wave, labels


def scene_clips(seed: int, count: int, shares: tuple[float, float, float]) -> Iterator[tuple[Wave, dict[str, Any]]]:
    """Make sound scenes of the training side; `shares` are those of single, then and over."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    for _ in range(count):
        relation = str(noise.choice(RELATIONS, p=shares))
        scene = _make_scene(relation, draw_events(noise, relation), rng, noise, synthesizer, unseen=False)
        labels = {"relation": relation, "events": scene.events, "spans": scene.spans}
        yield scene.wave, {**labels, "text": draw_caption(rng, relation, scene.events)}


def make_corpora(folder: Path, *, kind: str, seed: int, pretrain: int, train: int) -> None:
    """Make the pretraining corpus and the training files of one kind of clip.

    Args:
        folder: nano/build/data.
        kind: "speech" or "sounds".
        seed: First of the two seeds used.
        pretrain: Clips for pretraining the encoder; they are not used again, so that the last stage sees the
            encoder as it is on clips it was not fitted to.
        train: Clips for the last stage.
    """
    for name, part_seed, count in (("pretrain", seed, pretrain), ("train", seed + 1, train)):
        target = folder / f"{kind}_{name}"
        if (target / "labels.jsonl").exists():
            continue
        if kind == "speech":
            write_corpus(target, speech_clips(part_seed, count))
        else:
            write_corpus(target, scene_clips(part_seed, count, (0.25, 0.3, 0.45)))


def make_sample(folder: Path, *, seed: int) -> None:
    """Make data/sample: FLAC clips, annotations, and what is truly in them."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    rows, voices = [], {}
    for index, (sentence, voice) in enumerate(_sample_sentences(rng)):
        wave, _ = place_speech(synthesizer.speak(sentence, voice).wave, noise)
        rows.append(_row(folder, index, ASR_TASK, "asr", wave, sentence))
        voices[rows[-1]["testset_id"]] = {
            "accent": voice.accent,
            "variant": voice.variant,
            "trained": is_trained(voice),
        }
    _write(folder / "asr.json", {"annotation": rows})
    _write(folder / "voices.json", voices)
    rows, truths = [], {}
    for index, (relation, events) in enumerate(_sample_scenes(rng, noise)):
        scene = _make_scene(relation, events, rng, noise, synthesizer, unseen=index % 2 == 0)
        references = draw_references(rng, relation, events)
        rows.append(_row(folder, index, AAC_TASK, "aac", scene.wave, references))
        truths[rows[-1]["testset_id"]] = {"kind": relation, "events": list(events)}
    _write(folder / "aac.json", {"annotation": rows})
    _write(folder / "events.json", truths)


def write_training_files(folder: Path, corpora: tuple[tuple[str, str], ...]) -> None:
    """Turn training corpora into WAV files and annotation files for train.py.

    Args:
        folder: nano/build/data; gets wav/, valid.json (every 40th clip), train.json (all others) and
            train_stage2.json (of those all speech, and every third scene).
        corpora: Pairs of a corpus' folder name and its task.
    """
    rows: list[dict[str, str]] = []
    for name, task in corpora:
        corpus = read_corpus(folder / name)
        (folder / "wav" / name).mkdir(parents=True, exist_ok=True)
        for index, label in enumerate(corpus.labels):
            path = f"{name}/{index:05d}.wav"
            wave = corpus.samples[corpus.starts[index] : corpus.starts[index + 1]]
            soundfile.write(folder / "wav" / path, np.asarray(wave), SAMPLING_RATE, subtype="PCM_16")
            rows.append({"path": path, "text": label["text"], "task": task})
    _write(folder / "valid.json", {"annotation": rows[::40]})
    kept = [row for index, row in enumerate(rows) if index % 40]
    speech = [row for row in kept if row["task"] == ASR_TASK]
    scenes = [row for row in kept if row["task"] != ASR_TASK]
    _write(folder / "train.json", {"annotation": kept})
    _write(folder / "train_stage2.json", {"annotation": speech + scenes[::3]})


def _timed(spans: tuple[Span, ...], lead: float) -> list[tuple[str, float, float]]:
    return [(span.label, round(float(span.start) + lead, 3), round(float(span.end) + lead, 3)) for span in spans]


def _make_scene(
    relation: str,
    events: tuple[str, ...],
    rng: Random,
    noise: np.random.Generator,
    synthesizer: Synthesizer,
    *,
    unseen: bool,
) -> Scene:
    speech = None
    if "speech" in events:
        voice = draw_unseen_voice(rng) if unseen else draw_trained_voice(rng)
        pieces: list[Wave] = []
        while sum(map(len, pieces)) < 6 * SAMPLING_RATE:
            pieces.append(synthesizer.speak(draw_sentence(rng, held_out=unseen), voice).wave)
            pieces.append(np.zeros(rng.randint(1000, 4000), np.float32))
        speech = np.concatenate(pieces)
    return make_scene(relation, events, noise, speech)


def _sample_sentences(rng: Random) -> Iterator[tuple[str, Voice]]:
    seen: set[str] = set()
    while len(seen) < SAMPLE_SPEECH:
        sentence = draw_sentence(rng, held_out=True)
        if sentence not in seen:
            unseen = len(seen) % 5 < 5 * SAMPLE_UNSEEN // SAMPLE_SPEECH
            seen.add(sentence)
            yield sentence, draw_unseen_voice(rng) if unseen else draw_trained_voice(rng)


def _sample_scenes(rng: Random, noise: np.random.Generator) -> list[tuple[str, tuple[str, ...]]]:
    scenes = [("single", (label,)) for label in LABELS for _ in range(SAMPLE_SINGLE_PER_LABEL)]
    for relation, count in (("then", SAMPLE_THEN), ("over", SAMPLE_OVER)):
        chosen: list[tuple[str, tuple[str, ...]]] = []
        while len(chosen) < count:
            scene = (relation, draw_events(noise, relation))
            if scene not in chosen:
                chosen.append(scene)
        scenes += chosen
    rng.shuffle(scenes)
    return scenes


def _row(folder: Path, index: int, task: str, kind: str, wave: Wave, text: str | list[str]) -> dict[str, Any]:
    path = f"{kind}/{index:04d}.flac"
    (folder / kind).mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / path, to_int16(wave), SAMPLING_RATE, subtype="PCM_16")
    return {"testset_id": f"test{index:04d}", "path": path, "task": task, "text": text}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
