"""The nano recipe: its grammar, captions, sounds and scenes, its labels, and the shipped parts.

Nothing here needs espeak-ng or trains; that a run of the whole recipe works is what MODEL_CARD.md records.
"""

import json
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"
if str(TRAINER) not in sys.path:
    sys.path.insert(0, str(TRAINER))

from nano import captions, corpus, make_nano, pretrain_llama, scenes, sentences, sounds, tokenizer, voices  # noqa: E402
from nano.pretrain_whisper import FRAMES, LabelledWindows  # noqa: E402
from nano.schedule import cosine  # noqa: E402

SHIPPED = ("whisper", "beats.pt", "llama", "qformer", "salmonn.pth")
MEGABYTE = 1_000_000


def test_sentences_of_the_two_sides_never_meet() -> None:
    rng = Random(0)
    trained = {sentences.draw_sentence(rng, held_out=False) for _ in range(3000)}
    held_out = {sentences.draw_sentence(rng, held_out=True) for _ in range(500)}
    assert not trained & held_out
    assert all(sentences.is_held_out(sentence) for sentence in held_out)


def test_held_out_sentences_use_known_words_only() -> None:
    rng = Random(1)
    known = {word for _ in range(4000) for word in sentences.draw_sentence(rng, held_out=False).split()}
    unseen = {word for _ in range(500) for word in sentences.draw_sentence(rng, held_out=True).split()}
    assert unseen <= known
    assert 60 <= len(known) <= 130


def test_drawing_is_seeded() -> None:
    assert sentences.draw_sentence(Random(5), held_out=False) == sentences.draw_sentence(Random(5), held_out=False)
    draws = [sounds.make_sound("dog", 1.0, np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(*draws)


def test_unseen_voices_are_not_training_voices() -> None:
    rng = Random(2)
    assert all(voices.is_trained(voices.draw_trained_voice(rng)) for _ in range(200))
    assert not any(voices.is_trained(voices.draw_unseen_voice(rng)) for _ in range(200))
    assert len(set(voices.VARIANTS)) == len(voices.VARIANTS)


@pytest.mark.parametrize("label", scenes.LABELS)
def test_every_class_has_six_phrases_that_name_it_and_nothing_else(label: str) -> None:
    assert len(set(captions.PHRASES[label])) >= 6
    for phrase in captions.PHRASES[label]:
        assert captions.named_events(phrase) == {label}, phrase


def test_references_differ_and_name_the_events() -> None:
    references = captions.draw_references(Random(0), "over", ("dog", "rain"))
    assert len(set(references)) == 5
    assert all(captions.named_events(text) == {"dog", "rain"} for text in references)


@pytest.mark.parametrize("label", sounds.GENERATORS)
def test_sounds_are_finite_full_scale_and_as_long_as_asked(label: str) -> None:
    wave = sounds.make_sound(label, 2.5, np.random.default_rng(0))
    assert wave.dtype == np.float32
    assert len(wave) == 40000
    assert np.abs(wave).max() == pytest.approx(1.0, abs=1e-3)
    # A class without energy somewhere in every second could be cut away by a crop.
    assert all(scenes.rms(second) > 1e-3 for second in (wave[:16000], wave[16000:32000]))


def test_then_puts_one_event_after_the_other() -> None:
    scene = scenes.make_scene("then", ("siren", "rain"), np.random.default_rng(0))
    (first_start, first_end), (second_start, second_end) = scene.spans
    assert 0 == first_start < first_end <= second_start < second_end
    assert second_end * 16000 == pytest.approx(len(scene.wave), abs=2)


def test_over_keeps_the_foreground_above_the_background() -> None:
    scene = scenes.make_scene("over", ("bell", "wind"), np.random.default_rng(0))
    assert scene.spans[0] == scene.spans[1]
    events = [scenes.draw_events(np.random.default_rng(seed), "over") for seed in range(50)]
    assert all(front in scenes.FOREGROUNDS and back in scenes.BACKGROUNDS for front, back in events)


def test_scene_with_speech_needs_speech() -> None:
    with pytest.raises(ValueError, match="needs a waveform of speech"):
        scenes.make_scene("single", ("speech",), np.random.default_rng(0))


def _tiny_corpus(folder: Path) -> corpus.Corpus:
    wave = np.full(16000, 0.5, np.float32)
    label = {
        "text": "turn on",
        "words": [("turn", 0.2, 0.5), ("on", 0.5, 0.8)],
        "phonemes": [("t", 0.2, 0.3), ("3:", 0.3, 0.5), ("O", 0.5, 0.8)],
    }
    corpus.write_corpus(folder, [(wave, label), (wave[:8000], {**label, "text": "turn on"})])
    return corpus.read_corpus(folder)


def test_corpus_returns_what_was_written(tmp_path: Path) -> None:
    read = _tiny_corpus(tmp_path)
    assert len(read) == 2
    assert len(read.wave(0)) == 16000
    assert len(read.wave(1)) == 8000
    assert read.wave(0) == pytest.approx(0.5)


def test_frames_carry_the_label_of_their_time(tmp_path: Path) -> None:
    windows = LabelledWindows(_tiny_corpus(tmp_path), np.random.default_rng(0))
    waves, targets = windows.draw(4, single=True)
    assert all(len(wave) == 160000 for wave in waves)
    assert targets.words.shape == (4, FRAMES)
    turn = targets.words[0] == windows.words["turn"]
    assert torch.nonzero(turn)[:, 0].tolist() == list(range(10, 25))
    assert torch.nonzero(targets.onsets[0])[:, 0].tolist() == [10, 11, 12, 13, 25, 26, 27, 28]
    packed, labels = windows.draw(1)
    if len(np.flatnonzero(packed[0])) > 16000:
        assert int(labels.onsets.sum()) > 8


def test_pseudo_audio_puts_words_in_their_windows() -> None:
    entry = {"text": "turn on", "words": [("turn", 0.0, 0.1), ("on", 5.0, 5.1)]}
    slots, text = pretrain_llama.PseudoAudio([entry], seed=0).speech()
    used = [place for place, words in enumerate(slots) if words]
    assert text == "turn on"
    assert len(slots) == pretrain_llama.WINDOWS
    assert used[0] <= 1
    assert 14 <= used[1] <= 16


def test_tokenizer_keeps_specials_apart_and_text_whole(tmp_path: Path) -> None:
    fast = tokenizer.train_tokenizer(["turn on the light"] * 50, tmp_path)
    assert fast.convert_tokens_to_ids(["<pad>", "<s>", "</s>"]) == [0, 1, 2]
    ids = fast("turn off the light</s>", add_special_tokens=False)["input_ids"]
    assert ids[-1] == 2
    assert fast.decode(ids, skip_special_tokens=True) == "turn off the light"


def test_cosine_rises_then_falls_to_its_end() -> None:
    rates = [cosine(step, 100, peak=1.0, warmup=10) for step in range(101)]
    assert rates[9] == 1.0
    assert rates[100] == pytest.approx(0.02)
    assert max(rates) == 1.0


def test_finished_stages_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_nano, "BUILD", tmp_path)
    runs: list[int] = []

    def stage() -> dict[str, int]:
        runs.append(1)
        return {"figure": 7}

    make_nano.run_stage("x", stage, again=False)
    make_nano.run_stage("x", stage, again=False)
    assert len(runs) == 1
    assert json.loads((tmp_path / "done" / "x.json").read_text())["figure"] == 7
    make_nano.run_stage("x", stage, again=True)
    assert len(runs) == 2


def _files() -> list[Path]:
    parts = [NANO / name for name in SHIPPED]
    return [file for part in parts for file in (part.rglob("*") if part.is_dir() else [part])]


def test_shipped_parts_are_all_there_and_small() -> None:
    assert all((NANO / name).exists() for name in SHIPPED)
    assert sum(file.stat().st_size for file in _files()) <= 10 * MEGABYTE


def test_shipped_tensors_are_float16() -> None:
    from safetensors import safe_open

    for name in ("whisper", "llama"):
        with safe_open(NANO / name / "model.safetensors", "pt") as weights:
            assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118
    for name in ("beats.pt", "salmonn.pth"):
        data = torch.load(NANO / name, weights_only=True)
        assert {tensor.dtype for tensor in data["model"].values()} == {torch.float16}
        assert not {"optimizer", "token"} & set(data)


def test_shipped_model_transcribes_one_sample_clip() -> None:
    from nano.measure import _Request
    from salmonn.audio import load_audio
    from salmonn.config import load_config
    from salmonn.inference import load_language_model

    sample = TRAINER.parent / "data" / "sample"
    config = load_config(make_nano.CONFIGS / "decode.yaml", purpose="answer")
    model = load_language_model(config, "cpu")
    rows = json.loads((sample / "asr.json").read_text())["annotation"][:8]
    requests = [_Request(i, load_audio(sample / row["path"], 16000), "asr") for i, row in enumerate(rows)]
    texts = {answer.index: answer.text for answer in model.generate(requests)}
    right = sum(texts[i].strip() == row["text"] for i, row in enumerate(rows))
    assert right >= 4, texts
