"""The question command: the conversation, its end, one question by flags, and errors that are sentences."""

import importlib.util
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from salmonn.decoding.transformers_decoding import GenerationSettings
from salmonn.errors import CheckpointError, PromptError
from salmonn.inference.inference import Answer
from salmonn.prompts import PromptBook, split_at_audio

TRAINER = Path(__file__).resolve().parents[1]


class FakeLM:
    """Answers with what it was asked and how long the clip is."""

    sampling_rate = 16_000
    max_seconds = 30.0
    prompts = PromptBook(
        {"asr": ("<Speech><SpeechHere></Speech> Write.",), "QA": ("<Speech><SpeechHere></Speech> Say: {}",)}
    )

    def stream(
        self, audio: NDArray[np.float32], prompt: str, settings: GenerationSettings | None = None
    ) -> Generator[str, None, Answer]:
        asked = split_at_audio(prompt)[1].removeprefix("</Speech> ").replace("\n", " / ")
        if asked.endswith("Fail!"):
            raise PromptError("the model reads no more")
        text = f"[{asked} | {audio.size / self.sampling_rate:.1f} s]\x1b[31m"
        yield text
        return Answer(0, text, 1, "stop")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the fake in the model's place; the list gets the device of every load."""
    devices: list[str] = []

    def load(_: object, device: str) -> FakeLM:
        devices.append(device)
        return FakeLM()

    monkeypatch.setattr("salmonn.inference.inference.load_language_model", load)
    return devices


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("llama", "whisper"):
        (tmp_path / name).mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {llama_path: llama, whisper_path: whisper, ckpt: none}\nrun: {device: cpu}\nscoring: {}\n",
        encoding="utf-8",
    )
    soundfile.write(tmp_path / "two.wav", np.zeros(32_000, dtype=np.float32), 16_000)
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    return path


def invoke(config: Path, *arguments: str, lines: tuple[object, ...] = ()) -> Result:
    spec = importlib.util.spec_from_file_location("cli_inference_command", TRAINER / "cli_inference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: click.Command = module.main
    typed = "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(command, ["--cfg-path", str(config), *arguments], input=typed)


def test_it_asks_answers_asks_again_and_ends_with_the_input(config: Path, loaded: list[str]) -> None:
    wav = config.parent / "two.wav"
    result = invoke(config, lines=(wav, "What is it?", "", wav, "Who {speaks}?"))
    assert result.exit_code == 0, result.output
    assert "[What is it? | 2.0 s]" in result.stdout
    assert "[Who {speaks}? | 2.0 s]" in result.stdout
    assert "\x1b" not in result.stdout
    assert loaded == ["cpu"]


def test_a_bad_path_is_a_sentence_and_the_next_one_is_asked_for(config: Path, loaded: list[str]) -> None:
    folder = config.parent
    result = invoke(config, lines=("/none.wav", folder, folder / "text.wav", folder / "two.wav", "What?"))
    assert result.exit_code == 0
    said = ("'/none.wav' does not exist", "is a folder, not a file", "text.wav' is text, not audio", "[What? | 2.0 s]")
    for part in said:
        assert part in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("lines", [(), ("two.wav",)])
def test_the_end_of_input_is_no_error_wherever_it_comes(
    config: Path, loaded: list[str], lines: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    result = invoke(config, lines=lines)
    assert (result.exit_code, result.exception) == (0, None)


def test_two_flags_ask_one_question(config: Path, loaded: list[str]) -> None:
    wav = str(config.parent / "two.wav")
    result = invoke(config, "--wav-path", wav, "--prompt", "What?", "--device", "cuda:1", lines=(wav, "never asked"))
    assert result.exit_code == 0
    assert result.stdout == "[What? | 2.0 s]\\x1b[31m\n"
    assert loaded == ["cuda:1"]


@pytest.mark.parametrize("arguments", [("--wav-path", "two.wav"), ("--prompt", "What?")])
def test_one_flag_without_the_other_is_a_usage_error(config: Path, arguments: tuple[str, ...]) -> None:
    result = invoke(config, *arguments)
    assert result.exit_code == 2
    assert "belong together" in result.output


def test_a_wrong_path_in_the_flag_is_found_before_the_model_is_loaded(config: Path, loaded: list[str]) -> None:
    result = invoke(config, "--wav-path", "/none.wav", "--prompt", "What?")
    assert (result.exit_code, loaded) == (3, [])
    assert "Error: audio file '/none.wav' does not exist" in result.output


def test_configuration_and_loading_errors_are_sentences(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(config, "--options", "generate.num_beam=1", "model.lora=1")
    assert result.exit_code == 2
    assert "did you mean num_beams?" in result.output
    assert "model.lora" in result.output

    def fail(*_: object) -> FakeLM:
        raise CheckpointError("weights file 'x.pth' is empty: download it again")

    monkeypatch.setattr("salmonn.inference.inference.load_language_model", fail)
    result = invoke(config)
    assert result.exit_code == 4
    assert result.output.endswith("Error: weights file 'x.pth' is empty: download it again\n")


def test_questions_about_one_clip_follow_each_other_until_another_is_asked_for(config: Path, loaded: list[str]) -> None:
    wav = config.parent / "two.wav"
    result = invoke(config, lines=(wav, "What?", "And then?", "/new", wav, "Who?", "", wav))
    assert result.exit_code == 0, result.output
    said = [line for line in result.stdout.splitlines() if "|" in line]
    assert [line.count("|") for line in said] == [1, 2, 1]
    assert "[What? [What? | 2.0 s]\\x1b[31m / And then? | 2.0 s]" in result.stdout
    assert "[Who? | 2.0 s]" in result.stdout
    assert result.output.count("heard: all 2.0 s") == 3


def test_tasks_are_listed_and_asked_by_name(config: Path, loaded: list[str]) -> None:
    wav = config.parent / "two.wav"
    lines = (wav, "/tasks", "/task asr", "/new", wav, "/task QA is it?", "/new", wav, "/task QA", "which?")
    result = invoke(config, lines=lines)
    assert result.exit_code == 0, result.output
    for part in ("Speech: write down the words", "(with a question)", "[Write. |", "[Say: is it? |", "[Say: which? |"):
        assert part in result.stdout


def test_what_cannot_be_asked_is_a_sentence_and_the_conversation_goes_on(config: Path, loaded: list[str]) -> None:
    wav = config.parent / "two.wav"
    result = invoke(config, lines=(wav, "/task ars", "/help", "/task", "Fail!", "Fine?"))
    assert result.exit_code == 0, result.output
    for part in ("did you mean asr?", "no command '/help'", "no command '/task'", "reads no more", "[Fine? | 2.0 s]"):
        assert part in result.output


def test_a_task_by_flags(config: Path, loaded: list[str], tmp_path: Path) -> None:
    (tmp_path / "book.json").write_text(
        '{"asr": "<SpeechHere> Write.", "QA": "<SpeechHere> Answer {}"}', encoding="utf-8"
    )
    book = ("--options", f"model.test_prompt_path={tmp_path / 'book.json'}")
    wav = ("--wav-path", str(config.parent / "two.wav"))
    assert "Write. | 2.0 s]" in invoke(config, *wav, "--task", "asr", *book).stdout
    asked = invoke(config, *wav, "--task", "QA", "--question", "near?", *book)
    assert "Answer near? | 2.0 s]" in asked.stdout
    loaded.clear()
    for arguments, code, part in (
        (("--task", "QA"), 3, "task QA needs a question"),
        (("--task", "ars"), 3, "did you mean asr?"),
        (("--task", "asr", "--prompt", "What?"), 2, "exclude each other"),
        (("--prompt", "What?", "--question", "x"), 2, "--question belongs to --task"),
    ):
        result = invoke(config, *wav, *arguments, *book)
        assert (result.exit_code, loaded) == (code, [])
        assert part in result.output
    assert "test_prompt_path is empty" in invoke(config, *wav, "--task", "asr").output


def test_the_reference_model_answers_by_flags(reference: Path, tmp_path: Path) -> None:
    options = ["model.qformer_path=bert-base-uncased", "generate.max_new_tokens=5", "generate.num_beams=1"]
    arguments: list[Any] = ["--wav-path", str(reference / "wavs" / "clip02.wav"), "--prompt", "Write {it} down."]
    result = invoke(reference / "config.yaml", *arguments, "--options", *options)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.strip()) > 0
