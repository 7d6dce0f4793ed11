"""A checkout as participants have them, written into a folder: the original trainer's names and habits, a tiny model.

It prints, changes sys.path, imports `utils` from beside `models`, calls .cuda() and moves to "cuda" as the original's
code does, and loads half precision, LoRA and a checkpoint with missing keys.
"""

import json
import textwrap
from pathlib import Path
from typing import Any

TEMPLATE = "USER: {}\nASSISTANT:"
PROMPTS = {
    "asr": "<Speech><SpeechHere></Speech> Write down the speech.",
    "audiocaption_v2": "<Speech><SpeechHere></Speech> What {is} heard?",
    "QA": "<Speech><SpeechHere></Speech> {}",
}

SALMONN = """
import os
import sys

sys.path.insert(0, os.path.join(os.getcwd(), "nowhere"))
sys.path.append(".")
print("importing the fork")

import torch
import torch.nn as nn
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from utils import announce

from .bridge import Bridge


class SALMONN(nn.Module):
    def __init__(self, llama_path, lora, ckpt):
        super().__init__()
        announce("loading")
        self.lora = lora
        self.llama_tokenizer = AutoTokenizer.from_pretrained(llama_path, use_fast=True)
        self.llama_tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        self.llama_tokenizer.padding_side = "right"
        self.llama_model = AutoModelForCausalLM.from_pretrained(llama_path, torch_dtype=torch.float16)
        if lora:
            peft_config = LoraConfig(
                task_type=TaskType.CAUSAL_LM, inference_mode=False, r=2, lora_alpha=8, lora_dropout=0.1,
                target_modules=["q_proj", "v_proj"],
            )
            self.llama_model = get_peft_model(self.llama_model, peft_config)
        self.bridge = Bridge(self.llama_model.config.hidden_size)
        torch.manual_seed(0)
        for weight in self.bridge.parameters():
            nn.init.normal_(weight, std=0.3)
        for name, weight in self.named_parameters():
            if "lora_" in name:
                nn.init.normal_(weight, std=0.3)
        if ckpt:
            self.load_state_dict(torch.load(ckpt, map_location="cpu")["model"], strict=False)

    @property
    def device(self):
        return list(self.parameters())[0].device

    def encode_speech(self, spectrogram, raw_wav=None, audio_padding_mask=None):
        announce("encoding")
        assert raw_wav.dtype == torch.float64 and not audio_padding_mask.any()
        embeds = self.bridge(spectrogram.cuda(), raw_wav.to("cuda").float())
        return embeds, torch.ones(embeds.size()[:-1], dtype=torch.long).to(torch.device("cuda"))

    def prompt_wrap(self, embeds, atts, prompt, multi_prompt=False):
        assert multi_prompt
        embed = self.llama_model.model.model.embed_tokens if self.lora else self.llama_model.model.embed_tokens
        parts = []
        for place in (0, 1):
            texts = [each.split("<SpeechHere>")[place] for each in prompt]
            tokens = self.llama_tokenizer(texts, return_tensors="pt", padding="longest", add_special_tokens=False)
            parts.append((embed(tokens.input_ids.cuda()), tokens.attention_mask.cuda()))
        (before, before_atts), (after, after_atts) = parts
        return torch.cat([before, embeds, after], dim=1), torch.cat([before_atts, atts, after_atts], dim=1)

    @classmethod
    def from_config(cls, config):
        model = cls(config.get("llama_path"), config.get("lora", True), config.get("ckpt", ""))
        return model.cuda()
"""

BRIDGE = """
import torch
import torch.nn as nn


class Bridge(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heard = nn.Linear(80, width)
        self.loud = nn.Linear(1, width)

    def forward(self, spectrogram, wav):
        windows = spectrogram[:, :, :400].unfold(2, 50, 50).mean(-1).transpose(1, 2)
        return self.heard(windows) + self.loud(wav.abs().mean(-1, keepdim=True))[:, None]
"""

UTILS = """
def announce(what):
    print("fork:", what)
"""


def make_fork(root: Path, *, module: str = "salmonn", source: str = SALMONN) -> Path:
    """Write `models/` and what lies beside it into a folder, which is made."""
    models = root / "models"
    models.mkdir(parents=True)
    (models / "__init__.py").write_text("")
    (models / f"{module}.py").write_text(textwrap.dedent(source))
    (models / "bridge.py").write_text(textwrap.dedent(BRIDGE))
    (root / "utils.py").write_text(textwrap.dedent(UTILS))
    (root / "config.py").write_text('raise RuntimeError("nobody asked for me")\n')
    return root


def fork_sections(folder: Path, parts: Path, **model: Any) -> dict[str, dict[str, Any]]:
    """The configuration's sections for the fake model, of the language model and Whisper in `parts`."""
    prompts = folder / "test_prompt.json"
    prompts.write_text(json.dumps(PROMPTS))
    return {
        "model": {
            "llama_path": str(parts / "llama"),
            "whisper_path": str(parts / "whisper"),
            "ckpt": "",
            "lora": True,
            "prompt_template": TEMPLATE,
            "test_prompt_path": str(prompts),
            "end_sym": "<|end_of_text|>",
            **model,
        },
        "generate": {"max_new_tokens": 12, "num_beams": 2, "end_sym": "<|end_of_text|>"},
        "datasets": {"whisper_path": str(parts / "whisper")},
    }
