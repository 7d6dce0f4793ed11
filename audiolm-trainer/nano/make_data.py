"""Makes all audio of the recipe: `python -m nano.make_data` in audiolm-trainer/, and data/sample with --sample.

Fixed seeds go in; nano/build/data/ (not kept in the repository) and data/sample/ come out. Needs espeak-ng. Its
samples differ slightly from call to call, so a second run gives equivalent data, not the same bytes.
"""

import json
import multiprocessing
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import click
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
NANO = Path(__file__).resolve().parent
DATA = NANO / "build" / "data"
SAMPLE = NANO.parents[1] / "data" / "sample"
ASR_TASK, AAC_TASK = "asr", "audiocaption_v2"
CLIPS = {
    "speech_pretrain": 8000,
    "speech_train": 10000,
    "speech_valid": 600,
    "sounds_pretrain": 4000,
    "sounds_train": 3500,
    "sounds_valid": 200,
}
# One wrong digit costs a whole number where words are scored as Whisper's normaliser writes them.
TRAIN_DIGIT_SHARE, VALID_DIGIT_SHARE = 0.5, 0.32
SAMPLE_SEED, SAMPLE_SPEECH = 20, 100
SAMPLE_SINGLE_PER_LABEL, SAMPLE_THEN, SAMPLE_OVER = 2, 20, 20


def speech_clips(seed: int, count: int, *, digit_share: float | None) -> Iterator[tuple[Wave, dict[str, Any]]]:
    """Make utterances of training sentences by training voices, with the times of words and phonemes."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    for _ in range(count):
        sentence = draw_sentence(rng, held_out=False, digit_share=digit_share)
        utterance = synthesizer.speak(sentence, draw_trained_voice(rng))
        wave, lead = place_speech(utterance.wave, noise)
        labels = {
            "text": sentence,
            "words": _timed(utterance.words, lead),
            "phonemes": _timed(utterance.phonemes, lead),
        }
        yield wave, labels


def valid_speech_clips(
    seed: int, count: int, *, digit_share: float | None, avoid: Collection[str]
) -> Iterator[tuple[Wave, dict[str, Any]]]:
    """Make held-out sentences but those to `avoid`, three in five by voices that training never hears."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    for index in range(count):
        while (sentence := draw_sentence(rng, held_out=True, digit_share=digit_share)) in avoid:
            pass
        voice = _draw_voice(rng, index)
        wave, _ = place_speech(synthesizer.speak(sentence, voice).wave, noise)
        yield wave, {"text": sentence, "trained": is_trained(voice)}


def scene_clips(
    seed: int, count: int, *, shares: tuple[float, float, float], held_out: bool
) -> Iterator[tuple[Wave, dict[str, Any]]]:
    """Make sound scenes; `shares` are those of single, then and over. Held out, half the speakers are unseen."""
    rng, noise, synthesizer = Random(seed), np.random.default_rng(seed), Synthesizer()
    for index in range(count):
        relation = str(noise.choice(RELATIONS, p=shares))
        unseen = held_out and index % 2 == 0
        scene = _make_scene(relation, draw_events(noise, relation), rng, noise, synthesizer, unseen=unseen)
        labels = {"relation": relation, "events": scene.events, "spans": scene.spans}
        yield scene.wave, {**labels, "text": draw_caption(rng, relation, scene.events)}


def make_corpora(folder: Path, *, kind: str, share: float = 1.0, pretrain: bool = True) -> None:
    """Make the corpora of one kind of clip that are not there yet.

    The clips that pretrain the encoders are not used again, so that the SALMONN stages see the encoders as they are
    on clips they were not fitted to. The validation corpora hold what training never sees, in about the sample's
    mixture; what the recipe chooses, it chooses on them.

    Args:
        folder: nano/build/data.
        kind: "speech" or "sounds".
        share: part of each corpus's clips that is made.
        pretrain: whether the corpora of the encoders are made.
    """
    for name, clips in _corpora(kind, share):
        if (pretrain or not name.endswith("_pretrain")) and not (folder / name / "labels.jsonl").exists():
            write_corpus(folder / name, clips)


def _corpora(kind: str, share: float) -> Iterator[tuple[str, Iterator[tuple[Wave, dict[str, Any]]]]]:
    counts = {name: max(round(share * count), 1) for name, count in CLIPS.items()}
    if kind == "speech":
        sample = json.loads((SAMPLE / "asr.json").read_text(encoding="utf-8"))["annotation"]
        avoid = frozenset(row["text"] for row in sample)
        yield "speech_pretrain", speech_clips(100, counts["speech_pretrain"], digit_share=None)
        yield "speech_train", speech_clips(101, counts["speech_train"], digit_share=TRAIN_DIGIT_SHARE)
        valid = valid_speech_clips(102, counts["speech_valid"], digit_share=VALID_DIGIT_SHARE, avoid=avoid)
        yield "speech_valid", valid
    else:
        for seed, name in ((200, "sounds_pretrain"), (201, "sounds_train")):
            yield name, scene_clips(seed, counts[name], shares=(0.25, 0.3, 0.45), held_out=False)
        yield "sounds_valid", scene_clips(202, counts["sounds_valid"], shares=(0.4, 0.3, 0.3), held_out=True)


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


def write_training_files(folder: Path) -> None:
    """Turn the last stages' corpora into WAV files and annotation files for train.py.

    Args:
        folder: nano/build/data; gets wav/, train.json and valid.json.
    """
    for split in ("train", "valid"):
        speech = _write_clips(folder, f"speech_{split}", ASR_TASK)
        scenes = _write_clips(folder, f"sounds_{split}", AAC_TASK)
        _write(folder / f"{split}.json", {"annotation": speech + scenes})


def _write_clips(folder: Path, name: str, task: str) -> list[dict[str, str]]:
    corpus = read_corpus(folder / name)
    (folder / "wav" / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for index, label in enumerate(corpus.labels):
        path = f"{name}/{index:05d}.wav"
        wave = corpus.samples[corpus.starts[index] : corpus.starts[index + 1]]
        soundfile.write(folder / "wav" / path, np.asarray(wave), SAMPLING_RATE, subtype="PCM_16")
        rows.append({"path": path, "text": label["text"], "task": task})
    return rows


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
            voice = _draw_voice(rng, len(seen))
            seen.add(sentence)
            yield sentence, voice


def _draw_voice(rng: Random, index: int) -> Voice:
    """Draw an unseen voice for three clips in five, a trained one for the others."""
    return draw_unseen_voice(rng) if index % 5 < 3 else draw_trained_voice(rng)


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


@click.command()
@click.option("--sample", is_flag=True, help="Make data/sample anew instead; figures are then no longer comparable.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Part of the clips to make.")
@click.option("--for-training-only", is_flag=True, help="Leave the encoders' own corpora out.")
def main(sample: bool, share: float, for_training_only: bool) -> None:
    """Make the corpora that are not there yet, two at a time, and the files that train.py reads."""
    if sample:
        make_sample(SAMPLE, seed=SAMPLE_SEED)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        wanted = {"share": share, "pretrain": not for_training_only}
        for future in [pool.submit(make_corpora, DATA, kind=kind, **wanted) for kind in ("speech", "sounds")]:
            future.result()
    write_training_files(DATA)
    made = sorted(path.parent for path in DATA.glob("*/labels.jsonl"))
    click.echo(f"{DATA}: {', '.join(f'{len(read_corpus(path))} {path.name}' for path in made)}")


if __name__ == "__main__":
    main()
