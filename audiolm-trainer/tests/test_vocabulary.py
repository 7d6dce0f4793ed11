"""Tests of dropping tokens: texts are cut as before, logits of what stays are the same numbers, files load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_language_models import make_folder, pieces_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from salmonn.compress.interval import interval
from salmonn.compress.pruned_files import write_small_vocabulary
from salmonn.compress.task_texts import task_texts
from salmonn.compress.vocabulary import check_pieces, check_tokenizer, used_vocabulary
from salmonn.config.schema import Config, ModelConfig
from salmonn.data.dataset import Sample
from salmonn.errors import ConfigError
from salmonn.model.components import load_tokenizer

CORPUS = [
    "the weather was better than whatever weathered the feather",
    "low lower lowest newer newest",
    "über 한국",
] * 9
TEXTS = ["the lowest weather", "newer feather, ü"]
END = "<|end|>"


def byte_pairs(*, ignore_merges: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with merges, a beginning that its processor adds, and an added token in no merge."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=END, pad_token="<pad>")


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_texts_are_cut_as_before(ignore_merges: bool) -> None:
    before = byte_pairs(ignore_merges=ignore_merges)
    small = used_vocabulary(before, TEXTS)
    after = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(small.tokenizer), bos_token="<s>")
    assert len(after) == len(small.kept) < len(before)
    check_pieces(before, after, TEXTS)
    # The beginning is put in front under its new id, and special tokens are one token still.
    assert after("low")["input_ids"][0] == after.convert_tokens_to_ids("<s>")
    assert len(after(END, add_special_tokens=False)["input_ids"]) == 1
    # The place of an id is its new id.
    ids = before(TEXTS[0])["input_ids"]
    assert small.renumbered(ids) == after(TEXTS[0])["input_ids"]
    # What was never seen is written and read all the same, and only in more pieces.
    unseen = "whatever newest 한국 über?"
    pieces = after(unseen, add_special_tokens=False)["input_ids"]
    assert after.decode(pieces) == unseen
    assert len(pieces) > len(before(unseen, add_special_tokens=False)["input_ids"])


def test_pieces_with_byte_fallback_are_cut_as_before() -> None:
    before = pieces_tokenizer("<s>", fallback=True)
    texts = ["hello"]
    small = used_vocabulary(before, texts)
    after = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(small.tokenizer))
    check_pieces(before, after, texts)
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= set(after.get_vocab())


def test_other_pieces_are_found() -> None:
    before = byte_pairs()
    after = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(used_vocabulary(before, ["low"]).tokenizer))
    with pytest.raises(ConfigError, match="cuts 'the lowest weather' into other pieces"):
        check_pieces(before, after, TEXTS)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0), "Unigram"),
        (models.WordLevel({"a": 0}, unk_token="a"), "WordLevel"),
    ],
)
def test_tokenizers_of_other_kinds_are_refused(model: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"compress.vocabulary: needs a tokenizer of byte pairs \(BPE\).* is {kind}"):
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model)))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2"])
def test_a_folder_without_tokens_computes_the_same_numbers(tmp_path: Path, family: str, tied: bool) -> None:
    folder = make_folder(tmp_path / "llm", family, byte_pairs())
    before: Any = load_tokenizer(str(folder), None)
    torch.manual_seed(0)
    sizes = AutoConfig.from_pretrained(folder)
    # More rows than tokens, as many released models have, and two ends.
    sizes.vocab_size, sizes.tie_word_embeddings = len(before) + 20, tied
    sizes.eos_token_id = [before.eos_token_id, before.pad_token_id]
    whole = AutoModelForCausalLM.from_config(sizes).eval()
    whole.generation_config = GenerationConfig(eos_token_id=sizes.eos_token_id, pad_token_id=before.pad_token_id)
    whole.save_pretrained(folder)
    small, written = used_vocabulary(before, TEXTS), tmp_path / "small"
    write_small_vocabulary(
        str(folder), small, written, check=lambda it: check_pieces(before, load_tokenizer(str(it), None), TEXTS)
    )
    llm, after = AutoModelForCausalLM.from_pretrained(written).eval(), load_tokenizer(str(written), None)
    assert llm.config.vocab_size == len(small.kept) == len(after)
    assert llm.generation_config.eos_token_id == [after.eos_token_id, after.pad_token_id]
    assert llm.config.bos_token_id == after.bos_token_id
    with torch.no_grad():
        expected = whole(torch.tensor([before(TEXTS[0])["input_ids"]])).logits[..., list(small.kept)]
        found = llm(torch.tensor([after(TEXTS[0])["input_ids"]])).logits
    torch.testing.assert_close(found, expected)


def test_a_model_with_more_rows_of_tokens_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_pairs()
    folder = make_folder(tmp_path / "llm", "llama", tokenizer)
    sizes = AutoConfig.from_pretrained(folder)
    sizes.vocab_size = sizes.intermediate_size = len(tokenizer)
    AutoModelForCausalLM.from_config(sizes).save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"compress.vocabulary: model.layers.0.mlp.gate_proj.weight has a row for each"
    ):
        write_small_vocabulary(str(folder), used_vocabulary(tokenizer, TEXTS), tmp_path / "small", check=lambda _: None)
    assert not (tmp_path / "small").exists()


def test_all_texts_of_a_task_count(tmp_path: Path) -> None:
    prompts = {"asr": ["<SpeechHere> Write.", "Again <SpeechHere>"], "QA": ["<SpeechHere> Say: {}!"]}
    (tmp_path / "p.json").write_text(json.dumps(prompts), encoding="utf-8")
    (tmp_path / "t.json").write_text(json.dumps({"asr": "<SpeechHere> Text?"}), encoding="utf-8")
    (tmp_path / "more.txt").write_text("one\ntwo\n", encoding="utf-8")
    files = {"prompt_path": str(tmp_path / "p.json"), "test_prompt_path": str(tmp_path / "t.json")}
    model = ModelConfig(llama_path="", whisper_path="", prompt_template="U {} A", end_sym="</e>", **files)
    config = Config(model=model)
    samples = [Sample(Path("a"), "hello", "asr", ""), Sample(Path("b"), "four", "QA", "how many?")]
    found = set(task_texts(config, samples, str(tmp_path / "more.txt")))
    expected = {"hello", "four", "</e>", "U ", " Write. A", "U Again ", " A", " Say: how many?! A"}
    assert found == expected | {" Text? A", "one", "two"}
    (tmp_path / "more.txt").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"compress.vocabulary_texts: .*more.txt cannot be read"):
        task_texts(config, samples, str(tmp_path / "more.txt"))


def test_an_interval_holds_the_score_and_grows_with_the_spread() -> None:
    def mean(values: Any) -> float:
        return sum(values) / len(values)

    narrow, wide = interval(mean, [1.0] * 20), interval(mean, [0.0, 2.0] * 10)
    assert narrow == (1.0, 1.0)
    # The mean of 20 coins has a standard deviation of 0.22: 1.96 of them are 0.44.
    assert wide[0] == pytest.approx(0.56, abs=0.1)
    assert wide[1] == pytest.approx(1.44, abs=0.1)
    assert interval(mean, [0.0, 2.0] * 10) == wide
