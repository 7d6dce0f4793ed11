"""Text to ids and back against sentencepiece itself, which is what the released models were trained with."""

from pathlib import Path

import pytest
import sentencepiece
from transformers import LlamaConfig, PreTrainedTokenizerBase

from salmonn.decoding.token_text import TokenText
from salmonn.model.components import load_tokenizer
from salmonn.model.tiny import byte_tokenizer

BYTES = ("<0xED>", "<0x95>", "<0x9C>", "<0xEA>", "<0xB5>", "<0xAD>")  # two Korean letters
GAP = "\ufffd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Vicuna's: `tokenizer.model` alone, with single bytes for what the vocabulary lacks."""
    path = tmp_path_factory.mktemp("llama")
    (path / "text.txt").write_text("the cat sat on the mat and the dog ran to the door\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(path / "text.txt"), model_prefix=str(path / "tokenizer"), vocab_size=300, model_type="bpe",
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    (path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}'
    )
    LlamaConfig(vocab_size=300).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def original(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(folder), None)


@pytest.mark.parametrize(
    "text",
    ["", " ", "  ", " the", "  the cat", "the", "the  cat ", "\n the", "\tthe", " Tell", "</Speech> the", "한 국"],
)
def test_ids_are_those_of_sentencepiece(
    tokenizer: PreTrainedTokenizerBase, original: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert TokenText(tokenizer).ids(text) == original.encode(text)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (("▁the", *BYTES, "<0x0A>", "<0xEA>", "<0xB5>"), f"the한국\n{GAP}{GAP}"),
        (BYTES[1:], f"{GAP}{GAP}국"),
        ((*BYTES[:3], "<0xFF>", *BYTES[3:]), f"한{GAP}국"),
        ((*BYTES[:2], "▁the", *BYTES[2:]), f"{GAP}{GAP} the{GAP}국"),
        (("<0xED>", "<0xA0>", "<0x80>"), GAP * 3),
        (BYTES, "한국"),
        (("<0xF0>", "<0x9F>", "<0x90>", "<0xB6>", "<0xF0>", "<0x9F>", "<0x90>"), f"🐶{GAP * 3}"),
        (("▁the", "▁cat"), "the cat"),
        ((), ""),
    ],
)
def test_of_a_run_of_bytes_only_the_bad_ones_are_replaced(
    tokenizer: PreTrainedTokenizerBase,
    original: sentencepiece.SentencePieceProcessor,
    tokens: tuple[str, ...],
    text: str,
) -> None:
    ids = [original.piece_to_id(token) for token in tokens]
    assert TokenText(tokenizer).text(ids) == text
    assert original.decode(ids) == text


def test_other_tokenizers_are_asked_as_they_are() -> None:
    plain = byte_tokenizer("</s>")
    text = TokenText(plain)
    for sentence in (" Tell", "Tell", "  한국"):
        assert text.ids(sentence) == plain(sentence, add_special_tokens=False)["input_ids"]
        assert text.text(text.ids(sentence)) == sentence
    assert text.text(text.ids("한국")[:-1]) == f"한{GAP}"
