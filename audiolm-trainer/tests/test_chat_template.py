"""`model.prompt_template: chat`: the tokenizer's own chat template around a prompt."""

from pathlib import Path

import pytest
from test_language_models import bytes_tokenizer, make_folder, sections, train_and_answer

from salmonn.chat_template import rendered
from salmonn.config.config import from_mapping, load_config
from salmonn.errors import ConfigError, PromptError
from salmonn.preflight.preflight import find_training_problems
from salmonn.prompts import prompt_template, train_prompts

ROOT = Path(__file__).resolve().parents[2]
IM = (
    "{{ bos_token }}{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
AROUND = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("beginning", ["<s>", None])
def test_the_text_around_a_prompt_without_the_beginning(beginning: str | None) -> None:
    tokenizer = bytes_tokenizer(beginning)
    tokenizer.chat_template = IM if beginning else IM.replace("{{ bos_token }}", "")
    assert rendered(tokenizer, "x") == AROUND


def test_the_day_and_the_mode_are_held_fixed() -> None:
    tokenizer = bytes_tokenizer("<s>")
    tokenizer.chat_template = "{{ date_string }}|{{ enable_thinking }}|{{ messages[0].content }}"
    assert rendered(tokenizer, "x") == "26 Jul 2024|False|{}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "has no chat template: write the text around {} instead"),
        ("{{ raise_exception('system first') }}", "cannot be used: system first"),
        ("no place", "has the prompt's place 0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "has the prompt's place 2 times"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    tokenizer = bytes_tokenizer("<s>")
    tokenizer.chat_template = template or None
    with pytest.raises(PromptError) as error:
        rendered(tokenizer, "x")
    assert message in str(error.value)


def test_a_run_asks_by_it_in_training_and_answering(reference: Path, tmp_path: Path) -> None:
    tokenizer = bytes_tokenizer(None)
    tokenizer.chat_template = IM.replace("{{ bos_token }}", "")
    written = sections(reference, tmp_path, make_folder(tmp_path / "llm", "qwen3", tokenizer), prompt_template="chat")
    config = from_mapping(written, purpose="train")
    assert prompt_template(config) == AROUND
    assert train_prompts(config).prompt("asr") == AROUND.replace("{}", "hear <Speech><SpeechHere></Speech> now")
    lm, _ = train_and_answer(written)
    assert lm.prompts.template == AROUND


def test_a_tokenizer_without_one_is_found_before_training() -> None:
    config = load_config(ROOT / "audiolm-trainer/configs/sample.yaml", ["model.prompt_template=chat"], purpose="train")
    [(key, text)] = find_training_problems(config, offline=True)
    assert key == "model.prompt_template"
    assert "llama' has no chat template" in text


def test_other_words_are_no_template() -> None:
    with pytest.raises(ConfigError, match="exactly once, the place of the prompt, or be chat"):
        load_config(ROOT / "configs/salmonn_eval_config.yaml", ["model.prompt_template=chatml"])
