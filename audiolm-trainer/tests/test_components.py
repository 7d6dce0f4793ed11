"""Loading the parts, and the variants of the architecture that a configuration can ask for."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, WhisperFeatureExtractor, WhisperModel

from salmonn.device import choose_device, choose_dtype
from salmonn.errors import CheckpointError, ConfigError
from salmonn.frontend.features import FrontEnd
from salmonn.model import components
from salmonn.model.beats import BEATs, BEATsConfig
from salmonn.model.salmonn import SALMONN
from salmonn.model.speech_encoder import SpeechEncoder, Windows

NOISE = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
META = torch.device("meta")
NANO = Path(__file__).resolve().parents[1] / "nano"


def full_size(width: int, heads: int, kv_heads: int, layers: int) -> SALMONN:
    """A SALMONN with the released sizes and no weights: Whisper-large-v2, BEATs base, a Llama of the given sizes."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    llama = LlamaConfig(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        num_hidden_layers=layers,
        head_dim=128,
        intermediate_size=64,
        vocab_size=16,
    )
    whisper = WhisperConfig(
        d_model=1280, encoder_layers=1, encoder_attention_heads=20, encoder_ffn_dim=64, vocab_size=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    with META:
        encoder = SpeechEncoder(
            front_end=FrontEnd(WhisperFeatureExtractor(), patch_frames=16),
            whisper=WhisperEncoder(whisper),
            beats=BEATs(BEATsConfig(input_patch_size=16, encoder_layers=1)),
            qformer_config=components.qformer_config("", encoder_width=1280 + 768),
            num_queries=1,
            windows=Windows.from_seconds(length=0.333333, stride=0.333333),
            output_width=width,
        )
        llm = components.add_lora(
            LlamaForCausalLM(llama), LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        )
    return SALMONN(speech_encoder=encoder, llm=llm, tokenizer=None, end_sym="</s>", max_txt_len=300)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "numbers", "lora_tensors"),
    [
        ((5120, 40, 40, 40), 33_332_992, 160),
        ((4096, 32, 32, 32), 30_186_240, 128),
        ((3072, 24, 8, 28), 27_498_240, 112),
    ],
    ids=["vicuna-13b", "vicuna-7b", "llama-3.2-3b"],
)
def test_the_trained_part_of_the_full_size_models(
    sizes: tuple[int, int, int, int], numbers: int, lora_tensors: int
) -> None:
    trained = full_size(*sizes).trained_state_dict()
    assert sum(tensor.numel() for tensor in trained.values()) == numbers
    assert sum("lora_" in name for name in trained) == lora_tensors
    assert tuple(trained["speech_Qformer.bert.encoder.layer.0.crossattention.self.key.weight"].shape) == (
        768,
        2048,
    )


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 88),
        ({"num_speech_query_token": 3}, 88 * 3),
        # Overlapping windows: stride 8 frames, (1500 - 17) // 8 + 1 windows.
        ({"second_stride": 0.166667}, 186),
        ({"window_level_Qformer": False, "num_speech_query_token": 5}, 5),
        ({"beats_path": ""}, 88),
        ({"lora": False}, 88),
    ],
    ids=["default", "three-queries", "overlap", "no-windows", "whisper-alone", "no-lora"],
)
def test_variants_answer(build: Any, changes: dict[str, Any], rows: int) -> None:
    model = build(ckpt="none", **changes)
    with torch.no_grad():
        encoded = model.encode([NOISE, NOISE[:20_000]])
        speech = model.embed(encoded)
        alone = model.embed(model.encode([NOISE[:20_000]]))
    assert speech.shape == (2, rows, 64)
    assert torch.isfinite(speech).all()
    assert float((speech[1] - alone[0]).abs().max()) <= 1e-5
    output = model.loss(speech, ["a <SpeechHere> b"] * 2, ["one", "two three"])
    assert torch.isfinite(output.loss)


def test_a_window_too_short_for_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds to no frame"):
        Windows.from_seconds(length=0.001, stride=0.3)


def test_qformer_sizes(reference: Path, tmp_path: Path) -> None:
    default = components.qformer_config("", encoder_width=2048)
    assert (default.hidden_size, default.num_attention_heads, default.intermediate_size) == (768, 12, 3072)
    for path in (reference / "bert-base-uncased", reference / "bert-base-uncased/config.json"):
        small = components.qformer_config(str(path), encoder_width=112)
        assert (small.hidden_size, small.num_attention_heads, small.num_hidden_layers) == (64, 4, 2)
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(CheckpointError, match="lacks num_attention_heads, intermediate_size"):
        components.qformer_config(str(tmp_path), encoder_width=1)


SIZES = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"must hold an object .* \(found \[\]\)"),
        ("3", "must hold an object"),
        ("null", "must hold an object"),
        ("{", "cannot be read"),
        (json.dumps(SIZES | {"hidden_size": "8"}), "hidden_size must be a whole number above 0, not '8'"),
        (json.dumps(SIZES | {"hidden_size": True}), "not True"),
        (json.dumps(SIZES | {"intermediate_size": 0}), "intermediate_size must be a whole number above 0, not 0"),
        (json.dumps(SIZES | {"num_attention_heads": 3}), "multiple of num_attention_heads"),
        (json.dumps(SIZES | {"layer_norm_eps": "1e-12"}), "layer_norm_eps must be a number from 0 to 1"),
        (json.dumps(SIZES | {"hidden_act": ["gelu"]}), "hidden_act .* is not known"),
        (json.dumps(SIZES | {"hidden_act": "gellu"}), "hidden_act 'gellu' is not known"),
    ],
)
def test_a_qformer_file_with_other_content_is_refused_with_its_key(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"^model\\.qformer_path: '.*config.json' .*{message}"):
        components.qformer_config(str(tmp_path), encoder_width=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_patch_size": "16"}, "cfg.input_patch_size is '16'; a value of type int is needed"),
        ({"encoder_layers": 12.0}, "cfg.encoder_layers is 12.0"),
        ({"deep_norm": "True"}, "cfg.deep_norm is 'True'; a value of type bool is needed"),
        ({"activation_fn": None}, "cfg.activation_fn is None"),
        ({"encoder_layers": 0}, "cfg.encoder_layers is 0; sizes are above 0"),
        ({"encoder_attention_heads": 5}, "no multiple of cfg.encoder_attention_heads, 5"),
        ({"conv_pos_groups": 7}, "no multiple of cfg.conv_pos_groups, 7"),
        ({"num_buckets": 2}, "cfg.num_buckets is 2"),
        ({"max_distance": 1}, "cfg.num_buckets is"),
    ],
)
def test_a_beats_cfg_of_other_values_is_refused_with_its_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    data = torch.load(NANO / "beats.pt", weights_only=True)
    torch.save({"cfg": data["cfg"] | change, "model": data["model"]}, tmp_path / "beats.pt")
    with pytest.raises(CheckpointError, match=re.escape(message)):
        components.load_beats(tmp_path / "beats.pt", device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize(
    "empty",
    [
        {"bos_token": "", "eos_token": "", "unk_token": "", "tokenizer_class": "LLaMATokenizer"},
        {"unk_token": ""},
        {"bos_token": ""},
        {"eos_token": {"__type": "AddedToken", "content": ""}},
    ],
)
def test_empty_special_tokens_are_named(tmp_path: Path, empty: dict[str, Any]) -> None:
    folder = shutil.copytree(NANO / "llama", tmp_path / "llama")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | empty))
    names = ", ".join(name for name in ("bos_token", "eos_token", "unk_token") if name in empty)
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json of .*empty special tokens \({names}\)"):
        components.load_tokenizer(str(folder), None)


def test_empty_special_tokens_are_named_with_the_older_file_that_has_them(tmp_path: Path) -> None:
    folder = shutil.copytree(NANO / "llama", tmp_path / "llama")
    (folder / "special_tokens_map.json").write_text('{"bos_token": "", "unk_token": {"content": ""}}')
    with pytest.raises(CheckpointError, match=r"special_tokens_map\.json of .* \(bos_token, unk_token\)"):
        components.load_tokenizer(str(folder), None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", '{"eos_token": 5}'),
        ("tokenizer_config.json", "[]"),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"version": "1.0"}'),
    ],
)
def test_a_damaged_tokenizer_is_a_sentence(tmp_path: Path, name: str, content: str) -> None:
    folder = shutil.copytree(NANO / "llama", tmp_path / "llama")
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match="no tokenizer can be read from"):
        components.load_tokenizer(str(folder), None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"short"),
        ("config.json", b"[]"),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "llama", "hidden_size": "x"}'),
        ("config.json", b'{"model_type": "nobody"}'),
    ],
)
def test_a_damaged_language_model_is_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    folder = shutil.copytree(NANO / "llama", tmp_path / "llama")
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="no AutoModelForCausalLM can be loaded from"):
        components.load_llm(str(folder), device=torch.device("cpu"), dtype=torch.float32, token=None)


def test_a_beats_file_with_a_classifier_loads_and_a_wrong_one_is_named(reference: Path, tmp_path: Path) -> None:
    data = torch.load(reference / "beats.pt", weights_only=True)
    data["model"]["predictor.weight"] = torch.zeros(1)
    torch.save(data, tmp_path / "tuned.pt")
    device = torch.device("cpu")
    components.load_beats(tmp_path / "tuned.pt", device=device, dtype=torch.float32)
    del data["model"]["encoder.pos_conv.0.weight_g"]
    torch.save(data, tmp_path / "torn.pt")
    with pytest.raises(CheckpointError, match=r"missing \(1\):\s+encoder\.pos_conv\.weight_g"):
        components.load_beats(tmp_path / "torn.pt", device=device, dtype=torch.float32)
    torch.save({"cfg": data["cfg"] | {"layer_norm_first": True}, "model": {}}, tmp_path / "pre.pt")
    with pytest.raises(CheckpointError, match="layer_norm_first"):
        components.load_beats(tmp_path / "pre.pt", device=device, dtype=torch.float32)
    with pytest.raises(CheckpointError, match="no BEATs file"):
        components.load_beats(reference / "ckpt.pth", device=device, dtype=torch.float32)


def whisper_folder(target: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> str:
    """The nano Whisper's folder with its tensors changed."""
    target.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copyfile(NANO / "whisper" / name, target / name)
    save_file(change(load_file(NANO / "whisper/model.safetensors")), target / "model.safetensors", {"format": "pt"})
    return str(target)


def encoder_state(path: str) -> dict[str, torch.Tensor]:
    encoder = components.load_whisper_encoder(path, device=torch.device("cpu"), dtype=torch.float32, token=None)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    return dict(encoder.state_dict())


def test_whispers_encoder_is_that_of_the_whole_model_in_both_layouts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = WhisperModel.from_pretrained(NANO / "whisper").get_encoder().state_dict()
    capfd.readouterr()
    folders = [
        str(NANO / "whisper"),
        # As the released files have it, which hold a language model's head as well.
        whisper_folder(
            tmp_path / "head",
            lambda t: {f"model.{n}": v for n, v in t.items()} | {"proj_out.weight": torch.zeros(8, 8)},
        ),
        whisper_folder(tmp_path / "alone", lambda t: {n: v for n, v in t.items() if n.startswith("encoder.")}),
    ]
    for folder in folders:
        state = encoder_state(folder)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    # The decoder's weights are left, on purpose and without a report.
    assert "UNEXPECTED" not in "".join(capfd.readouterr())


def test_a_whisper_that_lacks_weights_of_its_encoder_is_refused(tmp_path: Path) -> None:
    folder = whisper_folder(tmp_path / "w", lambda t: {n: v for n, v in t.items() if n != "encoder.conv1.bias"})
    with pytest.raises(CheckpointError, match=r"missing \['conv1\.bias'\]"):
        encoder_state(folder)
    with pytest.raises(CheckpointError, match="does not hold the whole model"):
        encoder_state(str(NANO / "llama"))


@pytest.mark.skipif(sys.platform != "linux", reason="mappings are read from /proc")
def test_beats_stays_mapped_where_nothing_is_to_be_changed() -> None:
    device = torch.device("cpu")
    mapped = components.load_beats(NANO / "beats.pt", device=device, dtype=torch.float16)
    copied = components.load_beats(NANO / "beats.pt", device=device, dtype=torch.float32)
    assert {parameter.dtype for parameter in mapped.parameters()} == {torch.float16}
    assert is_mapped(mapped.encoder.layers[0].get_parameter("fc1.weight"), "beats.pt")
    assert not is_mapped(copied.encoder.layers[0].get_parameter("fc1.weight"), "beats.pt")
    assert not any(p.requires_grad or p.is_meta for p in (*mapped.parameters(), *copied.parameters()))


def is_mapped(tensor: torch.Tensor, file: str) -> bool:
    """Whether a tensor's memory belongs to the mapping of a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line.endswith(file)
    return False


def test_a_llama_folder_that_lacks_weights_is_refused(reference: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(reference / "llama", tmp_path / "llama")
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    config = (folder / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    (folder / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"missing \['model\.layers\.2"):
        components.load_llm(str(folder), device=torch.device("cpu"), dtype=torch.float32, token=None)


def test_a_folder_with_only_a_sentencepiece_model_loads(tmp_path: Path) -> None:
    """Vicuna's folder: `tokenizer.model` and no `tokenizer.json`; ids are sentencepiece's own."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog ran to the door\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "tokenizer"), vocab_size=300, model_type="bpe",
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}'
    )
    LlamaConfig(vocab_size=300).save_pretrained(tmp_path)
    tokenizer = components.load_tokenizer(str(tmp_path), None)
    plain = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for sentence in ("the dog sat on the cat", "USER: <Speech>", "</Speech> the mat.\nASSISTANT:", "한국어"):
        assert tokenizer(sentence, add_special_tokens=False)["input_ids"] == plain.encode(sentence)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer("</s>", add_special_tokens=False)["input_ids"] == [2]
    assert tokenizer.decode(plain.encode("the dog sat")) == "the dog sat"


def test_devices_and_dtypes() -> None:
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("float16", cpu) == torch.float16
    with pytest.raises(ConfigError, match="is not known"):
        choose_device("gpu please")
    with pytest.raises(ConfigError, match="is not supported"):
        choose_device("mps")
    with pytest.raises(ConfigError, match="is not here"):
        choose_device("cuda:99")
