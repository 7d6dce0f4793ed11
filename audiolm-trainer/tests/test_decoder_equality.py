"""The decoder against transformers' `generate`: seeded random models, settings and streams; equal ids, clip by clip.

The suite takes the first cases; `SALMONN_DECODER_CASES=1500` takes more of them, and so does the command

    python tests/test_decoder_equality.py 1500

which prints how many are equal. A case that is not equal in float32 is computed again in float64: where both agree
there, two candidates were equal up to rounding, and the case is counted as a tie.
"""

import os
import random
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from peft import LoraConfig
from recorded_steps import recorded
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import logging

from salmonn.decoding.decoder import Decoder, Execution
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.slots import ScoreRule
from salmonn.decoding.transformers_decoding import GenerationSettings, until_stop
from salmonn.model.components import add_lora
from salmonn.model.lora_merge import merge_adapter

CASES = int(os.environ.get("SALMONN_DECODER_CASES", "150"))
BLOCKS = 8
FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "lora": (LlamaConfig, LlamaForCausalLM),
    "merged": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


class Case(NamedTuple):
    """A model, settings and a stream; `lengths` forces each clip's answer, None lets the model end it."""

    name: str
    llm: Any
    prompts: list[Tensor]
    config: GenerationConfig
    slots: int
    prefill: int
    lengths: list[int] | None
    behind: int
    is_recorded: bool


class ForcedLengths(LogitsProcessor):  # type: ignore[misc]
    """transformers' side of `forced_rule`, for one clip."""

    def __init__(self, length: int, eos_ids: Sequence[int]) -> None:
        self.length = length
        self.eos_ids = torch.tensor(eos_ids)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        now = torch.tensor(input_ids.shape[1] + 1 == self.length, device=scores.device)
        return force(scores, self.eos_ids.to(scores.device), now=now)


def force(scores: Tensor, eos_ids: Tensor, *, now: Tensor) -> Tensor:
    """Let the answers of rows [n, ..., V] end now, bool [n], or not yet."""
    is_end = (torch.arange(scores.shape[-1], device=scores.device)[:, None] == eos_ids).any(dim=1)
    kept = is_end == now.view(-1, *[1] * (scores.dim() - 1))
    return scores.masked_fill(~kept, -torch.inf)


def forced_rule(lengths: Sequence[int], eos_ids: list[int], device: torch.device) -> ScoreRule:
    ends, is_end = torch.tensor(lengths, device=device), torch.tensor(eos_ids, device=device)

    def rule(scores: Tensor, clips: Tensor, steps: Tensor) -> Tensor:
        return force(scores, is_end, now=steps + 1 == ends[clips])

    return rule


def build_model(family: str, pick: random.Random, *, ties: str) -> Any:
    heads = pick.choice([2, 4])
    config_class, model_class = FAMILIES[family]
    vocabulary = pick.choice([12, 23, 40, 101])
    config = config_class(
        hidden_size=heads * 8,
        head_dim=8,
        intermediate_size=pick.choice([24, 40]),
        num_hidden_layers=pick.choice([1, 2, 3]),
        num_attention_heads=heads,
        num_key_value_heads=pick.choice([1, 2, heads]),
        vocab_size=vocabulary,
        initializer_range=pick.choice([0.1, 0.2, 0.4]),
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
        attn_implementation=pick.choice(["sdpa", "sdpa", "sdpa", "eager"]),
    )
    llm = model_class(config).eval()
    if ties == "all":
        torch.nn.init.zeros_(llm.lm_head.weight)
    elif ties == "some":
        llm.lm_head.weight.data[vocabulary // 2 :] = 0.0
    if family in ("lora", "merged"):
        adapter = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        llm = add_lora(llm, adapter).eval()
        for name, parameter in llm.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return merge_adapter(llm).llm if family == "merged" else llm


def draw_config(pick: random.Random) -> GenerationConfig:
    """Settings as the configuration's `generate` section builds them, and three that it does not have."""
    settings = GenerationSettings(
        max_new_tokens=pick.choice([1, 2, 6, 12, 18]),
        num_beams=pick.choice([1, 2, 4, 8]),
        min_length=pick.choice([0, 1, 1, 14]),
        repetition_penalty=pick.choice([1.0, 1.0, 1.3, 0.8]),
        length_penalty=pick.choice([-1.5, -0.5, 0.0, 0.6, 1.0, 1.0, 2.0]),
    )
    eos_ids = pick.sample([2, 3, 5, 7], pick.choice([1, 1, 2, 3]))
    config = settings.for_transformers(eos_ids=eos_ids, bos_id=0)
    config.early_stopping = pick.choice([False, False, True, "never"])
    config.min_new_tokens = pick.choice([None, None, None, 3])
    return config


def build_case(seed: int) -> Case:
    pick = random.Random(seed)
    torch.manual_seed(seed)
    family = pick.choice(list(FAMILIES))
    ties = pick.choice(["none"] * 8 + ["some", "all"])
    llm = build_model(family, pick, ties=ties)
    config = draw_config(pick)
    clips = pick.choice([1, 2, 3, 5])
    prompts = [torch.randn(pick.randint(1, 18), llm.config.hidden_size) for _ in range(clips)]
    forced = pick.random() < 0.2 and config.min_new_tokens is None and config.min_length < 2
    lengths = [pick.randint(1, config.max_new_tokens) for _ in range(clips)] if forced else None
    name = f"seed {seed}: {family}, ties {ties}, {clips} clips, lengths {lengths}, {config.to_diff_dict()}"
    slots, prefill, behind = pick.choice([1, 2, 3, 8]), pick.choice([1, 1, 3]), pick.choice([0, 0, 1, 3])
    return Case(name, llm, prompts, config, slots, prefill, lengths, behind, pick.random() < 0.5)


def by_transformers(case: Case) -> list[list[int]]:
    """Each clip alone: in a batch transformers lets padding hide generated tokens from the repetition penalty."""
    stops = list(case.config.eos_token_id)
    answers = []
    for place, prompt in enumerate(case.prompts):
        forced = LogitsProcessorList([ForcedLengths(case.lengths[place], stops)]) if case.lengths else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            output = case.llm.generate(
                inputs_embeds=prompt[None],
                attention_mask=torch.ones(1, prompt.shape[0], dtype=torch.int64, device=prompt.device),
                generation_config=case.config,
                logits_processor=forced,
            )
        answers.append(until_stop(output[0].tolist(), set(stops)))
    return answers


def by_decoder(case: Case) -> list[list[int]]:
    settings = DecoderSettings.from_transformers(case.config, case.llm)
    device = case.prompts[0].device
    rule = forced_rule(case.lengths, list(settings.eos_ids), device) if case.lengths else None
    record = recorded if case.is_recorded else Execution.on(device).record
    decoder = Decoder(
        case.llm,
        settings,
        slots=case.slots,
        score_rule=rule,
        execution=Execution(part=1, most=case.prefill, behind=case.behind, record=record),
    )
    answers = dict(decoder.decode(enumerate(case.prompts)))
    assert sorted(answers) == list(range(len(case.prompts)))
    return [answers[index] for index in range(len(case.prompts))]


def is_tie(case: Case) -> bool:
    """Whether both agree in float64, where rounding is far below any difference of candidates."""
    exact = case._replace(llm=case.llm.double(), prompts=[prompt.double() for prompt in case.prompts])
    return by_decoder(exact) == by_transformers(exact)


def compare(seeds: range) -> tuple[int, list[str], list[str]]:
    """Equal cases, ties, and cases that differ."""
    # transformers logs which of two settings it prefers, in nearly every case.
    logging.set_verbosity_error()
    equal, tied, different = 0, [], []
    for seed in seeds:
        case = build_case(seed)
        ours, theirs = by_decoder(case), by_transformers(case)
        if ours == theirs:
            equal += 1
        elif is_tie(case):
            tied.append(case.name)
        else:
            different.append(f"{case.name}\n  {ours}\n  {theirs}")
    return equal, tied, different


@pytest.mark.parametrize("block", range(BLOCKS))
def test_ids_equal_those_of_transformers(block: int) -> None:
    seeds = range(CASES * block // BLOCKS, CASES * (block + 1) // BLOCKS)
    equal, tied, different = compare(seeds)
    assert not different, "\n".join(different)
    assert len(tied) <= len(seeds) // 50, tied
    assert equal + len(tied) == len(seeds)


def main(cases: int) -> None:
    """Print the counts over the first cases."""
    equal, tied, different = compare(range(cases))
    print(*(f"tie: {name}" for name in tied), *(f"DIFFERENT: {name}" for name in different), sep="\n")
    print(f"{cases} cases: {equal} equal, {len(tied)} ties, {len(different)} different")


if __name__ == "__main__":
    main(int(sys.argv[1]))
