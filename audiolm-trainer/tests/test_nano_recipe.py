"""The nano recipe: its grammar, captions, sounds and scenes, its labels, and the shipped parts.

Nothing here needs espeak-ng or trains; that a run of the whole recipe works is what MODEL_CARD.md records.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

TRAINER = Path(__file__).resolve().parents[1]
NANO = TRAINER / "nano"
if str(TRAINER) not in sys.path:
    sys.path.insert(0, str(TRAINER))

from nano import (  # noqa: E402
    captions,
    corpus,
    export,
    make_nano,
    pretrain_llama,
    pretraining,
    scenes,
    sentences,
    sounds,
    tokenizer,
    voices,
)
from nano.pretrain_config import Pretraining, load_pretraining  # noqa: E402
from nano.pretrain_step import cosine  # noqa: E402
from nano.pretrain_whisper import FRAMES, LabelledWindows  # noqa: E402
from salmonn.errors import ConfigError  # noqa: E402

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
    clips = _tiny_corpus(tmp_path)
    windows = LabelledWindows(clips, np.random.default_rng(0), single_share=1.0)
    waves, targets = windows.draw(4)
    assert all(len(wave) == 160000 for wave in waves)
    assert targets.words.shape == (4, FRAMES)
    turn = targets.words[0] == windows.words["turn"]
    assert torch.nonzero(turn)[:, 0].tolist() == list(range(10, 25))
    assert torch.nonzero(targets.onsets[0])[:, 0].tolist() == [10, 11, 12, 13, 25, 26, 27, 28]
    packed, labels = LabelledWindows(clips, np.random.default_rng(0), single_share=0.0).draw(1)
    assert len(np.flatnonzero(packed[0])) > 100000
    assert int(labels.onsets.sum()) > 8


def test_pseudo_audio_puts_words_in_their_windows() -> None:
    entry = {"text": "turn on", "words": [("turn", 0.0, 0.1), ("on", 5.0, 5.1)]}
    slots, text = pretrain_llama.PseudoAudio([entry], seed=0, windows=29, window_seconds=0.34).speech()
    used = [place for place, words in enumerate(slots) if words]
    assert text == "turn on"
    assert len(slots) == 29
    assert used[0] <= 1
    assert 14 <= used[1] <= 16


def test_tokenizer_keeps_specials_apart_and_text_whole() -> None:
    fast = tokenizer.train_tokenizer(["turn on the light"] * 50, vocabulary=300)
    assert len(fast) <= 300
    assert fast.convert_tokens_to_ids(["<pad>", "<s>", "</s>"]) == [0, 1, 2]
    ids = fast("turn off the light</s>", add_special_tokens=False)["input_ids"]
    assert ids[-1] == 2
    assert fast.decode(ids, skip_special_tokens=True) == "turn off the light"


def test_cosine_rises_then_falls_to_its_end() -> None:
    rates = [cosine(step, 100, peak=1.0, warmup=10, final=0.02) for step in range(101)]
    assert rates[9] == 1.0
    assert rates[100] == pytest.approx(0.02)
    assert max(rates) == 1.0


def test_finished_stages_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_nano, "DONE", tmp_path / "done")
    touch = f"python -c \"from pathlib import Path; Path({str(tmp_path / 'ran')!r}).open('a').write('x')\""
    stage = make_nano.Stage("x", ((touch,), (touch, touch)))
    make_nano.run_stage(stage, again=False)
    make_nano.run_stage(stage, again=False)
    assert (tmp_path / "ran").read_text() == "xxx"
    assert json.loads((tmp_path / "done" / "x.json").read_text())["commands"] == [touch] * 3
    make_nano.run_stage(stage, again=True)
    assert (tmp_path / "ran").read_text() == "x" * 6


def test_a_failed_command_ends_the_stage_without_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_nano, "DONE", tmp_path / "done")
    failing = 'python -c "raise SystemExit(3)"'
    with pytest.raises(click.ClickException, match="ended with code 3"):
        make_nano.run_stage(make_nano.Stage("x", ((failing, "python -c pass"),)), again=False)
    assert not (tmp_path / "done").exists()


def test_every_command_of_the_recipe_names_files_that_are_there() -> None:
    commands = [command for stage in make_nano.STAGES for lane in stage.lanes for command in lane]
    trained = [command.split()[-1] for command in commands if " train.py " in command]
    assert len(trained) == 5
    assert all((TRAINER / path).is_file() for path in trained)
    modules = [command.split()[2] for command in commands if " -m " in command]
    assert all((TRAINER / f"{module.replace('.', '/')}.py").is_file() for module in modules)


@pytest.mark.parametrize("part", ["whisper", "beats", "llama"])
def test_pretraining_files_say_what_made_the_shipped_parts(part: str, tmp_path: Path) -> None:
    settings = _settings(part, tmp_path)
    assert settings.part == part
    assert settings.steps == {"whisper": 1800, "beats": 700, "llama": 700}[part]
    assert Path(settings.output) == NANO / {"whisper": "whisper", "beats": "beats.pt", "llama": "llama"}[part]


def _settings(part: str, data: Path, *options: str) -> Pretraining:
    check = () if part == "llama" else (f"pretrain.check={data}",)
    return load_pretraining(_yaml(part), (f"pretrain.data={data}", *check, *options))


def _yaml(part: str) -> Path:
    return TRAINER / "configs" / "nano" / f"pretrain_{part}.yaml"


def test_wrong_pretraining_settings_are_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.yaml"
    text = _yaml("whisper").read_text(encoding="utf-8").replace("batch_size: 8", "batch_sise: 8")
    path.write_text(text.replace("steps: 1800", "steps: 0"), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_pretraining(path, ("pretrain.init_lr=high",))
    lines = text.splitlines()
    message = str(raised.value)
    assert f"{path}:{lines.index('  batch_sise: 8') + 1}: pretrain.batch_sise: is not a setting" in message
    assert "did you mean batch_size?" in message
    assert f"{path}:{lines.index('  steps: 1800') + 1}: pretrain.steps: input should be greater" in message
    assert "--options: pretrain.init_lr: input should be a valid number (found 'high')" in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pretrain: 3", "pretrain: is a section"),
        ("pretrain:\n  part: vicuna", "pretrain.part: must be one of whisper, beats, llama (found 'vicuna')"),
        ("pretrain:\n  part: beats\nrun:\n  seed: 1", "run: does not belong beside pretrain"),
    ],
)
def test_a_file_that_is_no_pretraining_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "pretrain.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_pretraining(path)
    assert problem in str(raised.value)


def test_a_missing_corpus_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from nano.pretraining import run
from salmonn.errors import ConfigError
try:
    run(Path({str(_yaml("whisper"))!r}), ("pretrain.data={tmp_path}/none",))
except ConfigError as error:
    print(error)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TRAINER, capture_output=True, text=True, check=True)
    assert f"pretrain.data: {tmp_path}/none is no folder" in done.stdout


def _scene_corpus(folder: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = [scenes.make_scene("then", ("bell", "rain"), rng) for _ in range(3)]
    labels = [{"relation": scene.relation, "events": scene.events, "spans": scene.spans} for scene in drawn]
    corpus.write_corpus(folder, ((scene.wave, label) for scene, label in zip(drawn, labels, strict=True)))


@pytest.mark.parametrize("part", ["whisper", "beats", "llama"])
def test_two_pretraining_runs_write_the_same_bytes(part: str, tmp_path: Path) -> None:
    _scene_corpus(tmp_path / "data") if part == "beats" else _tiny_corpus(tmp_path / "data")
    threads = torch.get_num_threads()
    for name in ("first", "second"):
        options = [f"pretrain.data={tmp_path / 'data'}", f"pretrain.output={tmp_path / name}", "pretrain.steps=2"]
        options += [] if part == "llama" else [f"pretrain.check={tmp_path / 'data'}", "pretrain.batch_size=2"]
        pretraining.run(_yaml(part), tuple(options))
    torch.set_num_threads(threads)
    first, second = (tmp_path / "first", tmp_path / "second")
    files = sorted(first.iterdir()) if first.is_dir() else [first]
    assert files
    for file in files:
        assert file.read_bytes() == (second / file.name if first.is_dir() else second).read_bytes(), file.name


def test_train_command_pretrains_a_part_and_tells_a_wrong_setting(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("train_command", TRAINER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    _tiny_corpus(tmp_path / "data")
    options = [f"pretrain.data={tmp_path / 'data'}", f"pretrain.check={tmp_path / 'data'}", "pretrain.batch_size=1"]
    arguments = ["--cfg-path", str(_yaml("whisper")), "--options", *options, f"pretrain.output={tmp_path / 'whisper'}"]
    threads = torch.get_num_threads()
    wrong = CliRunner().invoke(command.main, [*arguments, "pretrain.steps=0"])
    assert wrong.exit_code == ConfigError.exit_code
    assert "--options: pretrain.steps" in wrong.output
    right = CliRunner().invoke(command.main, [*arguments, "pretrain.steps=1"])
    torch.set_num_threads(threads)
    assert right.exit_code == 0, right.output
    assert (tmp_path / "whisper" / "model.safetensors").is_file()


def test_the_part_that_pretraining_writes_is_what_the_model_loads(tmp_path: Path) -> None:
    from salmonn.model.components import load_beats, load_whisper_encoder

    _tiny_corpus(tmp_path / "speech")
    _scene_corpus(tmp_path / "sounds")
    threads = torch.get_num_threads()
    for part, data in (("whisper", "speech"), ("beats", "sounds")):
        options = (f"pretrain.output={tmp_path / part}", "pretrain.steps=1", "pretrain.batch_size=1")
        pretraining.run(
            _yaml(part), (f"pretrain.data={tmp_path / data}", f"pretrain.check={tmp_path / data}", *options)
        )
    torch.set_num_threads(threads)
    load_whisper_encoder(str(tmp_path / "whisper"), device=torch.device("cpu"), dtype=torch.float32, token=None)
    load_beats(tmp_path / "beats", device=torch.device("cpu"), dtype=torch.float32)


def test_export_takes_the_newest_runs_best_checkpoint_in_half_precision(tmp_path: Path) -> None:
    for number, name in enumerate(("202601010000", "202601010000-2")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        data = {"model": {"x": torch.full((2,), float(number))}, "epoch": number, "tasks": ["asr"], "optimizer": {}}
        torch.save(data, folder / export.CHECKPOINT)
        os.utime(folder / export.CHECKPOINT, (1000 + number, 1000 + number))
    source = export.newest_checkpoint(tmp_path / "runs")
    export.export(source, tmp_path / "out.pth", float16=True)
    data = torch.load(tmp_path / "out.pth", weights_only=True)
    assert set(data) == {"model", "epoch", "tasks"}
    assert data["epoch"] == 1
    assert torch.equal(data["model"]["x"], torch.ones(2, dtype=torch.float16))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint_best\.pth under"):
        export.newest_checkpoint(tmp_path / "none")


def test_digit_strings_make_the_asked_share() -> None:
    rng = Random(3)
    drawn = [sentences.draw_sentence(rng, held_out=False, digit_share=0.5) for _ in range(2000)]
    share = sum(set(text.split()[-3:]) <= set(sentences.DIGITS) for text in drawn) / len(drawn)
    assert 0.45 < share < 0.55


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
    from salmonn.audio.loading import load_audio
    from salmonn.config.config import load_config
    from salmonn.inference.inference import load_language_model

    sample = TRAINER.parent / "data" / "sample"
    config = load_config(TRAINER / "configs" / "nano" / "decode.yaml", purpose="answer")
    model = load_language_model(config, "cpu")
    rows = json.loads((sample / "asr.json").read_text())["annotation"][:8]
    requests = [_Request(i, load_audio(sample / row["path"], 16000), "asr") for i, row in enumerate(rows)]
    texts = {answer.index: answer.text for answer in model.generate(requests)}
    right = sum(texts[i].strip() == row["text"] for i, row in enumerate(rows))
    assert right >= 4, texts
