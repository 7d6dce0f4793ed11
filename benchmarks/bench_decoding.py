"""Time of the decoding stage: `python benchmarks/bench_decoding.py [--quick]`.

One process, one random language model in the proportions of a 3B one (grouped queries, float32, CPU), the same prompts
of 115 tokens for every arm, four beams, answers of forced lengths. Speech of `seconds` (log-normal, mean 7.1, at least
1.3, at most 35) says 3.8 tokens a second, give or take 20 %. The arms:

    original    the original's loop: file order, batches of 8, transformers' beam search
    fair        transformers' beam search, longest speech first, with the batch size that is fastest in a first pass
    decoder     salmonn.decoder, longest speech first

The arms run in turn, forwards then backwards, in every repeat. Each row says how many answers differ from those of
`original`. Both wall and CPU time are taken; on a shared machine CPU time is the one to compare.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from salmonn.decoder import Decoder
from salmonn.decoder_settings import DecoderSettings
from salmonn.decoding import GenerationSettings, until_stop

EOS = 2
BEAMS = 4
PROMPT_TOKENS = 115
MAX_NEW_TOKENS = 200
SIZES = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "vocab_size": 16000}
QUICK_SIZES = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4, "vocab_size": 4000}

Answers = dict[int, list[int]]


class Clips(NamedTuple):
    """Prompts [S, H], seconds of speech, and the length that each answer is forced to."""

    prompts: list[Tensor]
    seconds: list[float]
    lengths: list[int]

    def longest_first(self) -> list[int]:
        return sorted(range(len(self.prompts)), key=lambda clip: -self.seconds[clip])


class ForcedLengths(LogitsProcessor):  # type: ignore[misc]
    """Let row n end at `lengths[n // BEAMS]` tokens and nowhere else."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = torch.tensor(lengths).repeat_interleave(BEAMS)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return force(scores, self.lengths == input_ids.shape[1] + 1)


def force(scores: Tensor, now: Tensor) -> Tensor:
    """Let rows of scores [N, V] end now, bool [N], or not yet."""
    ends = scores[:, EOS].clone()
    scores[now] = -torch.inf
    scores[:, EOS] = torch.where(now, ends, -torch.inf)
    return scores


def main() -> None:
    """Run all arms and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small model, 8 clips, one repeat")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slots", type=int, help="of the decoder; left out: its own default")
    options = parser.parse_args()
    clips, repeats = (8, 1) if options.quick else (options.clips, options.repeats)
    torch.manual_seed(0)
    llm = build_model(QUICK_SIZES if options.quick else SIZES)
    data = draw_clips(clips, llm.config.hidden_size)
    print(
        f"{sum(p.numel() for p in llm.parameters()) / 1e6:.0f} M parameters, {clips} clips, "
        f"{statistics.mean(data.lengths):.1f} tokens on average (longest {max(data.lengths)}), "
        f"{torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}"
    )
    best = best_batch_size(llm, data)
    arms: dict[str, Callable[[], Answers]] = {
        "original": lambda: by_transformers(llm, data, range(clips), 8),
        f"fair (batches of {best})": lambda: by_transformers(llm, data, data.longest_first(), best),
        "decoder": lambda: by_decoder(llm, data, options.slots),
    }
    report(*measure(arms, repeats))
    print(f"load average {os.getloadavg()[0]:.1f}")


def build_model(sizes: dict[str, int]) -> LlamaForCausalLM:
    """A random Llama with heads of 64 and groups of three."""
    heads = sizes["hidden_size"] // 64
    return LlamaForCausalLM(
        LlamaConfig(
            **sizes, num_attention_heads=heads, num_key_value_heads=heads // 3, eos_token_id=EOS, pad_token_id=EOS
        )
    ).eval()


def draw_clips(number: int, width: int) -> Clips:
    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(mean=np.log(7.1) - 0.18, sigma=0.6, size=number), 1.3, 35.0)
    lengths = np.clip(seconds * 3.8 * rng.normal(1.0, 0.2, size=number), 2, MAX_NEW_TOKENS).astype(int)
    prompts = [torch.randn(PROMPT_TOKENS, width) * 0.02 for _ in range(number)]
    return Clips(prompts, seconds.tolist(), lengths.tolist())


def best_batch_size(llm: LlamaForCausalLM, data: Clips) -> int:
    """The fastest batch size of transformers on clips sorted by length."""
    times = {}
    for size in (4, 8, 16, 32):
        start = time.process_time()
        by_transformers(llm, data, data.longest_first(), size)
        times[size] = time.process_time() - start
    print("sorted, by batch size:", ", ".join(f"{size}: {seconds:.1f} s" for size, seconds in times.items()))
    return min(times, key=lambda size: times[size])


@torch.no_grad()
def by_transformers(llm: LlamaForCausalLM, data: Clips, order: Sequence[int], size: int) -> Answers:
    """transformers' beam search in batches; prompts of one length need no padding."""
    config = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS, num_beams=BEAMS).for_transformers(
        eos_ids=[EOS], bos_id=None
    )
    answers: Answers = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        output = llm.generate(
            inputs_embeds=torch.stack([data.prompts[clip] for clip in batch]),
            attention_mask=torch.ones(len(batch), PROMPT_TOKENS, dtype=torch.int64),
            generation_config=config,
            logits_processor=LogitsProcessorList([ForcedLengths([data.lengths[clip] for clip in batch])]),
        )
        answers |= {clip: until_stop(ids, {EOS}) for clip, ids in zip(batch, output.tolist(), strict=True)}
    return answers


def by_decoder(llm: LlamaForCausalLM, data: Clips, slots: int | None) -> Answers:
    """Our decoder, from building it to the last answer."""

    def rule(scores: Tensor, clips: Sequence[int], steps: Sequence[int]) -> Tensor:
        now = [data.lengths[clip] == step + 1 for clip, step in zip(clips, steps, strict=True)]
        rows = torch.tensor(now).repeat_interleave(scores.shape[1])
        return force(scores.flatten(0, 1), rows).view_as(scores)

    settings = DecoderSettings(eos_ids=(EOS,), max_new_tokens=MAX_NEW_TOKENS, num_beams=BEAMS)
    decoder = Decoder(llm, settings, slots=slots, score_rule=rule)
    return dict(decoder.decode((clip, data.prompts[clip]) for clip in data.longest_first()))


def measure(
    arms: dict[str, Callable[[], Answers]], repeats: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, int]]:
    """Wall and CPU seconds of every run of every arm, and each arm's answers that differ from the first one's."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    expected = next(iter(arms.values()))()
    differ = dict.fromkeys(arms, 0)
    for _ in range(repeats):
        for name in [*arms, *reversed(arms)]:
            wall, cpu = time.perf_counter(), time.process_time()
            answers = arms[name]()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            differ[name] = max(differ[name], sum(answers[clip] != ids for clip, ids in expected.items()))
    return times, differ


def report(times: dict[str, list[tuple[float, float]]], differ: dict[str, int]) -> None:
    """Print medians and ranges, and how many times as fast the last arm is."""
    *_, last = times
    for name, runs in times.items():
        wall, cpu = ([run[kind] for run in runs] for kind in (0, 1))
        gains = [other[1] / ours[1] for other, ours in zip(runs, times[last], strict=True)]
        print(
            f"{name:22} CPU {statistics.median(cpu):6.2f} s ({min(cpu):.2f}-{max(cpu):.2f})  "
            f"wall {statistics.median(wall):6.2f} s ({min(wall):.2f}-{max(wall):.2f})  "
            f"{last} is x {statistics.median(gains):.2f} ({min(gains):.2f}-{max(gains):.2f}) as fast  "
            f"{differ[name]} answers differ"
        )


if __name__ == "__main__":
    main()
