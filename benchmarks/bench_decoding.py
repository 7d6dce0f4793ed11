"""How fast clips are answered: `python benchmarks/bench_decoding.py [--whole] [--quick] [--json FILE]`.

One process, one random model, the same weights and clips for every arm, four beams, answers of forced lengths drawn as
`drawn_clips.py` says. Without `--whole` the decoding stage alone, from the prompts' embeddings to token ids:

    original    the original's loop: file order, batches of 8, transformers' beam search
    fair        transformers' beam search, longest clips first, with the batch size that is fastest in a first pass
    decoder     `salmonn.decoding.decoder`, longest clips first

With `--whole` everything from waveforms to text, see `whole_run.py`. The arms run in turn, forwards then backwards, in
every repeat; each row says how many answers differ from transformers'. On a shared CPU the CPU time is the one to
compare. `--device cuda --full` measures the full size in bfloat16, with the arithmetic ceiling, the answers' agreement
with float32 and the latency of single clips.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from agreement import measure_agreement
from answer_report import as_numbers, rows, share_of_ceiling, table
from arms import Arm, Outcome, fastest_batch, measure
from ceiling import clips_a_second, limits_of, mean_work, work_of_clip, work_table
from decoding_stage import Stage, build_stage_arms
from device_clock import Spent, device_name, environment, free_memory, require
from drawn_clips import MAX_NEW_TOKENS, Lengths, draw_lengths, draw_prompts, draw_recordings
from latency import measure_latency
from original_loop import Loop, settings
from random_salmonn import END_ID, FULL, LLM, MINI, QUICK, QUICK_LLM, Shape, build_answering_model, build_random_llm
from whole_run import answer_all, build_arms, build_package

from salmonn.audio.loading import MAX_SECONDS

BEAMS = 4
CEILING_SLOTS = 64
AGREEMENT_SLOTS = (1, 8, 64)
CPU_BATCHES, GPU_BATCHES = (4, 8, 16), (8, 16, 32, 64, 128)
CPU_WARM_UPS, GPU_WARM_UPS = (2,), (None, None)
"""Clips of each arm's runs before the clock; on a GPU all, twice: a step's graph is captured the second time."""

Record = dict[str, object]


def main() -> None:
    """Run one stage's arms, print a row for each, and what else was asked for."""
    options = parse_options()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    require(device)
    lengths = draw_lengths(options.clips)
    record: dict[str, object] = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "environment": environment(device),
        "lengths": asdict(lengths),
        "load_average_before": os.getloadavg(),
    }
    print(", ".join(f"{name} {value}" for name, value in environment(device).items()))
    print(f"{describe(lengths)}; {options.dtype}, load average {os.getloadavg()[0]:.1f}")
    outcomes = (measure_whole if options.whole else measure_stage)(options, lengths, device, dtype, record)
    record["load_average_after"] = os.getloadavg()
    print(f"load average {os.getloadavg()[0]:.1f} afterwards")
    if options.quick:
        print("A quick run shows that everything works; its model is too small for its figures to say anything.")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    differ = sum(outcome.differ for outcome in outcomes.values())
    if differ and device.type == "cpu" and dtype == torch.float32:
        raise SystemExit(f"{differ} answers differ from transformers': in float32 on a CPU none may")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, and choose what it leaves open."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--whole", action="store_true", help="from waveforms to text, not the decoding stage alone")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a tiny model, a few clips, one repeat")
    size.add_argument("--full", action="store_true", help="Whisper-large-v2, BEATs and Llama-3.2-3B in size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: bfloat16 on a GPU")
    parser.add_argument("--clips", type=int, help="default 24, or 16 with --whole; 6 quick, 256 full")
    parser.add_argument("--repeats", type=int, help="forwards and backwards each; default 3, 1 quick")
    parser.add_argument("--batch-size", type=int, help="clips that the package encodes together; default: its own")
    parser.add_argument("--slots", type=int, help="clips decoded together; default: what the package chooses")
    parser.add_argument("--original-clips", type=int, help="clips of the arms in file order; default all, 64 full")
    parser.add_argument("--agreement", type=int, help="clips to compare with float32, with --whole; default 0, 32 full")
    parser.add_argument("--latency", type=int, help="clips to answer one by one, with --whole; default 0, 20 full")
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    options = parser.parse_args(arguments)
    usual = {"clips": 16 if options.whole else 24, "repeats": 3, "original_clips": None, "agreement": 0, "latency": 0}
    quick = {**usual, "clips": 6, "repeats": 1}
    full = {**usual, "clips": 256, "original_clips": 64, "agreement": 32, "latency": 20}
    for name, value in (quick if options.quick else full if options.full else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    return options


def describe(lengths: Lengths) -> str:
    """Say what is answered."""
    return (
        f"{len(lengths.tokens)} clips of {statistics.mean(lengths.seconds):.1f} s on average (longest "
        f"{max(lengths.seconds):.1f}), answers of {statistics.mean(lengths.tokens):.1f} tokens (longest "
        f"{max(lengths.tokens)}), {BEAMS} beams"
    )


def measure_stage(
    options: argparse.Namespace, lengths: Lengths, device: torch.device, dtype: torch.dtype, record: Record
) -> dict[str, Outcome]:
    """Measure the decoding stage."""
    shape = QUICK_LLM if options.quick else FULL if options.full else LLM
    llm = build_random_llm(shape, device=device, dtype=dtype)
    print(f"decoding stage, language model of {sum(p.numel() for p in llm.parameters()) / 1e6:.0f} M parameters")
    prompts = draw_prompts(options.clips, width=shape.llm_width, device=device, dtype=dtype)
    stage = Stage(llm, prompts, lengths, END_ID, BEAMS)
    everything = lengths.longest_first(range(options.clips))
    batch = choose_batch(lambda size: stage.by_transformers(everything, size), device, record)
    arms = build_stage_arms(stage, batch=batch, slots=options.slots, original_clips=options.original_clips)
    return run_arms(arms, options, None, device, record)


def measure_whole(
    options: argparse.Namespace, lengths: Lengths, device: torch.device, dtype: torch.dtype, record: Record
) -> dict[str, Outcome]:
    """Measure whole runs, and what else was asked for."""
    shape = QUICK if options.quick else FULL if options.full else MINI
    model = build_answering_model(shape, device=device, dtype=dtype)
    print(f"whole run, model of {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters: {shape}")
    recordings = draw_recordings(lengths)
    loop = Loop(model, recordings, lengths, settings(END_ID, max_new_tokens=MAX_NEW_TOKENS))
    batch = choose_batch(lambda size: loop.sorted(range(options.clips), size), device, record)
    package = build_package(model, lengths, batch_size=options.batch_size, slots=options.slots)
    arms = build_arms(loop, package, batch=batch, original_clips=options.original_clips)
    heard = {name: lengths.heard(arm.clips) for name, arm in arms.items()}
    outcomes = run_arms(arms, options, heard, device, record)
    compare_with_ceiling(shape, loop, outcomes, device, record)
    # What follows needs the memory of its slots.
    del package, arms
    free_memory(device)
    if options.latency:
        latency(loop, range(min(options.latency, options.clips)), device, record)
    if options.agreement:
        agreement(loop, range(min(options.agreement, options.clips)), record)
    return outcomes


def choose_batch(answer: Callable[[int], object], device: torch.device, record: Record) -> int:
    """Find the fair arm's batch size."""
    batch, seconds = fastest_batch(answer, GPU_BATCHES if device.type == "cuda" else CPU_BATCHES, device=device)
    print(
        "transformers, sorted, by batch size:", ", ".join(f"{size}: {value:.1f} s" for size, value in seconds.items())
    )
    record["batch_sizes"] = seconds
    return batch


def run_arms(
    arms: dict[str, Arm],
    options: argparse.Namespace,
    heard: Mapping[str, float] | None,
    device: torch.device,
    record: Record,
) -> dict[str, Outcome]:
    """Run the arms, print their table and keep their numbers."""
    warm_ups = GPU_WARM_UPS if device.type == "cuda" else CPU_WARM_UPS
    outcomes = measure(arms, repeats=options.repeats, device=device, warm_ups=warm_ups, tell=tell)
    reduced = rows(outcomes, heard=heard, device=device)
    print(f"warm-up, off the clock: {', '.join(f'{name} {done.warm_up:.1f} s' for name, done in outcomes.items())}")
    print(
        f"medians and ranges of {2 * options.repeats} runs in turn; gains by "
        f"{'wall' if device.type == 'cuda' else 'CPU'} time\n{table(outcomes, reduced)}"
    )
    record["arms"] = as_numbers(outcomes, reduced)
    return outcomes


def tell(arm: str, spent: Spent) -> None:
    """Say that a run is done, beside the results: there are minutes between the first and the last."""
    print(f"{arm}: {spent.cpu:.1f} CPU s, {spent.wall:.1f} s", file=sys.stderr, flush=True)


def compare_with_ceiling(
    shape: Shape, loop: Loop, outcomes: Mapping[str, Outcome], device: torch.device, record: Record
) -> None:
    """Print the work of the average clip, and how much of what the device could do the package reaches."""
    lengths = loop.lengths
    prompts = [loop.prompt_tokens(clip) for clip in range(len(lengths.tokens))]
    works = [
        work_of_clip(shape, seconds=min(seconds, float(MAX_SECONDS)), prompt=prompt, tokens=tokens, beams=BEAMS)
        for seconds, prompt, tokens in zip(lengths.seconds, prompts, lengths.tokens, strict=True)
    ]
    work, limits = mean_work(works), limits_of(device_name(device))
    print(work_table(work))
    record["work"] = asdict(work)
    if limits is None:
        print(f"no arithmetic ceiling is known for {device_name(device)}")
        return
    ceiling = clips_a_second(
        shape,
        work,
        limits,
        slots=CEILING_SLOTS,
        prompt=statistics.mean(prompts),
        tokens=statistics.mean(lengths.tokens),
        beams=BEAMS,
    )
    reduced = rows(outcomes, heard=None, device=device)
    for name, row in reduced.items():
        print(f"{name}: {share_of_ceiling(row, ceiling, limits)}")
    record["ceiling"] = {"clips_a_second": ceiling, "limits": asdict(limits), "slots": CEILING_SLOTS}


def latency(loop: Loop, clips: range, device: torch.device, record: Record) -> None:
    """Measure and print how long one who waits waits, with the package and with transformers."""
    begin = Loop(loop.model, loop.recordings, loop.lengths, settings(END_ID, max_new_tokens=1))
    first, whole = (
        build_package(loop.model, loop.lengths, slots=1, max_new_tokens=limit) for limit in (1, MAX_NEW_TOKENS)
    )
    ways: dict[str, tuple[Callable[[int], object], Callable[[int], object]]] = {
        "package": (
            lambda clip: answer_all(first, [loop.recordings[clip]]),
            lambda clip: answer_all(whole, [loop.recordings[clip]]),
        ),
        "transformers": (lambda clip: begin.sorted([clip], 1), lambda clip: loop.sorted([clip], 1)),
    }
    for name, (start, finish) in ways.items():
        seen = measure_latency(start, finish, clips=clips, lengths=loop.lengths, device=device)
        percentiles = seen.percentiles()
        print(
            f"{name}, {len(clips)} clips one by one: {', '.join(f'{key} {ms:.1f}' for key, ms in percentiles.items())}"
        )
        record[f"latency_{name}"] = percentiles | {"seconds": asdict(seen)}


def agreement(loop: Loop, clips: range, record: Record) -> None:
    """Measure and print how far 16-bit answers are those of float32; the model is in float32 afterwards."""
    seen, stable = measure_agreement(loop, clips, slots=AGREEMENT_SLOTS)
    print(f"{stable} of {len(clips)} answers are the same with {', '.join(map(str, AGREEMENT_SLOTS))} slots")
    for way, found in seen.items():
        print(
            f"{way}: {found.equal} of {found.clips} answers are float32's, {100 * found.agreeing_part:.1f} % of an "
            f"answer on average before the first difference, at most {found.largest_gap:.4f} nats a token worse"
        )
    record["agreement"] = {way: asdict(found) for way, found in seen.items()} | {"same_whatever_the_slots": stable}


if __name__ == "__main__":
    main()
