"""The nano model made smaller in several ways, each measured: `make compress-nano` (needs espeak-ng).

Layers are dropped, the context is cut, the rest is healed (`python -m salmonn compress`), weights are held in fewer
bits; every variant transcribes and captions data/sample and is measured by the challenge's protocol. Everything lies in
compress_nano_results/; what is there is not made again. Two compressions run side by side, one thread each; measuring
is done alone.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
DATA = TRAINER / "nano" / "build" / "data"
CLOCKED = ["--mode", "valid_asr", "--clips", "20", "--repeats", "2"]
"""One clip after the other with the configured beams: what somebody waits for."""
SHARE = "0.35"
"""Part of the recipe's clips that healing uses."""
CONTEXT = 7.0
"""Seconds; the longest clip of data/sample has 6.9."""


@dataclass(frozen=True, slots=True)
class Compression:
    """One run of `python -m salmonn compress`: its folder, and what differs from configs/nano/compress.yaml."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A model to measure.

    Attributes:
        name: in the table.
        compression: where its files come from; None for the model that is shipped.
        checkpoint: of the compression: "salmonn.pth" right after dropping, "healed.pth" after healing.
        options: of the evaluator.
    """

    name: str
    compression: str | None = None
    checkpoint: str = "healed.pth"
    options: tuple[str, ...] = ()


CUT = f"compress.context_seconds={CONTEXT}"
# Lanes run side by side; of one lane each begins with encodings that the one before has kept.
LANES = (
    (
        Compression("llm_taught", ()),
        Compression("llm_texts", ("compress.distill_weight=0.0",)),
        Compression(
            "whisper",
            ("compress.drop_llm_layers=0", "compress.drop_whisper_layers=1", "compress.distill_weight=0.0"),
        ),
    ),
    (
        Compression("context", ("compress.drop_llm_layers=0", CUT, "compress.distill_weight=0.0")),
        Compression("llm_context", (CUT, "compress.distill_weight=0.0")),
    ),
)
HEARS = f"model.context_seconds={CONTEXT}"
HALF = ("model.dtype=float16", "model.bridge_dtype=float16", "model.merge_lora=True")
VARIANTS = (
    Variant("float32"),
    Variant("bfloat16", options=("model.dtype=bfloat16",)),
    Variant("float16", options=("model.dtype=float16",)),
    Variant("int8", options=("model.quantize={kind: int8, parts: [llm, whisper]}",)),
    Variant("float16, bridge too, merged", options=HALF),
    Variant("adapter merged", options=("model.merge_lora=True",)),
    Variant("LLM 3 -> 2 layers", "llm_taught", "salmonn.pth"),
    Variant("LLM 3 -> 2 layers, healed on texts", "llm_texts"),
    Variant("LLM 3 -> 2 layers, healed with teacher", "llm_taught"),
    Variant("Whisper 3 -> 2 layers, healed", "whisper"),
    Variant(f"hears {CONTEXT:g} s, healed", "context", options=(HEARS,)),
    Variant(f"LLM 3 -> 2, hears {CONTEXT:g} s, healed", "llm_context", options=(HEARS,)),
    Variant("LLM 3 -> 2, healed with teacher, float16, bridge too, merged", "llm_taught", options=HALF),
    Variant(
        f"LLM 3 -> 2, hears {CONTEXT:g} s, merged, greedy",
        "llm_context",
        options=(HEARS, "model.merge_lora=True", "generate.num_beams=1"),
    ),
)


def main() -> None:
    """Make every variant, measure it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "compress_nano_results")
    parser.add_argument("--processes", default="3", help="fresh processes of the challenge's protocol for each variant")
    options = parser.parse_args()
    output = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    if not (DATA / "train.json").exists():
        run(["-m", "nano.make_data", "--share", SHARE, "--for-training-only"], cwd=TRAINER)
    with ThreadPoolExecutor(len(LANES)) as pool:
        for lane in [pool.submit(make, lane, output) for lane in LANES]:
            lane.result()
    for variant in VARIANTS:
        measure(variant, output, processes=options.processes)
    rows = [figures(variant, output) for variant in VARIANTS]
    (output / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    table = as_markdown(rows)
    (output / "table.md").write_text(table, encoding="utf-8")
    print(table)
    board(output)


def make(lane: Sequence[Compression], output: Path) -> None:
    """Run a lane's compressions, one after the other."""
    for each in lane:
        log = output / f"{each.name}.log"
        folder = f"compress.output_dir={json.dumps(str(output / each.name))}"
        command = ["-m", "salmonn", "compress", "--cfg-path", "configs/nano/compress.yaml", "--options", folder]
        run([*command, *each.options], cwd=TRAINER, log=log, OMP_NUM_THREADS="1")


def measure(variant: Variant, output: Path, *, processes: str) -> None:
    """Transcribe, caption and clock a variant, unless that is done."""
    folder = results(variant, output)
    options = ["--output-dir", str(folder), "--options", *files(variant, output), *variant.options]
    for mode in ("valid_asr", "valid_aac"):
        if not list(folder.glob(f"valid_results/*_{mode}/scores.json")):
            run(["evaluate_salmonn.py", "--mode", mode, *options], log=output / "measuring.log")
    done = efficiency(folder)
    ways = {"challenge": ["--protocol", "challenge", "--processes", processes], "clips": CLOCKED}
    for name, way in ways.items():
        if name not in done:
            run(["evaluate_salmonn.py", "--efficiency", *way, *options], log=output / "measuring.log")


def efficiency(folder: Path) -> dict[str, Any]:
    """What was clocked of a variant, by protocol."""
    found = [read(path) for path in sorted(folder.glob("efficiency_results/*/efficiency.json"))]
    return {data["protocol"].get("name", "clips"): data for data in found}


def files(variant: Variant, output: Path) -> list[str]:
    """The settings that name a variant's files."""
    if variant.compression is None:
        return ["run.latency_clips=0"]
    folder = output / variant.compression
    named = {"ckpt": folder / variant.checkpoint, "llama_path": folder / "llm", "whisper_path": folder / "whisper"}
    found = [f"model.{key}={json.dumps(str(path))}" for key, path in named.items() if path.exists()]
    return [*found, "run.latency_clips=0"]


def results(variant: Variant, output: Path) -> Path:
    """The folder of a variant's results."""
    return output / "variants" / variant.name.replace(" ", "_").replace(",", "").replace("->", "to")


def figures(variant: Variant, output: Path) -> dict[str, Any]:
    """Read what was measured of a variant."""
    folder = results(variant, output)
    clocked, scores = efficiency(folder), {}
    for mode in ("valid_asr", "valid_aac"):
        [scored] = folder.glob(f"valid_results/*_{mode}/scores.json")
        scores |= {metric["name"]: metric["value"] for metric in read(scored)["metrics"]}
    challenge, clips = clocked["challenge"]["figures"], clocked["clips"]["figures"]
    components = clocked["challenge"]["components"]
    return {
        "variant": variant.name,
        "weight_bytes": sum(cost["weights_bytes"] for cost in components.values()),
        "wer": scores["wer"],
        "cider_d": scores["cider_d"],
        "ttft_seconds": challenge["waited_ttft_seconds"]["median"],
        "tpot_seconds": challenge["waited_tpot_seconds"]["median"],
        "clip_seconds": clips["batch1_final_text_seconds_p50"]["median"],
    }


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the variants out, each beside the first one."""
    first = rows[0]
    lines = [
        "| variant | weights | WER | CIDEr-D | TTFT + TPOT | one clip, p50 | times as fast |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (
            row["variant"],
            f"{row['weight_bytes'] / 1e6:.1f} MB ({row['weight_bytes'] / first['weight_bytes']:.0%})",
            f"{100 * row['wer']:.2f} %",
            f"{row['cider_d']:.2f}",
            f"{1000 * (row['ttft_seconds'] + row['tpot_seconds']):.1f} ms",
            f"{1000 * row['clip_seconds']:.1f} ms",
            f"{first['clip_seconds'] / row['clip_seconds']:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def board(output: Path) -> None:
    """Rank the variants by the challenge's rules, and plot quality against cost."""
    sources = []
    for variant in VARIANTS:
        folder = results(variant, output)
        runs = sorted(path.parent for path in folder.glob("valid_results/*/scores.json"))
        challenge = [
            path
            for path in folder.glob("efficiency_results/*/efficiency.json")
            if read(path)["protocol"].get("name") == "challenge"
        ]
        sources += [f"{variant.name}={path}" for path in (*runs, *challenge)]
    plot = ["--plot", str(output / "board.svg"), "--captions", "cider_d"]
    run(["-c", "from evaluator.cli import main; main()", "board", *plot, *sources])


def run(arguments: Sequence[str], *, cwd: Path = ROOT, log: Path | None = None, **environment: str) -> None:
    """Run Python, its output into a log file or to the screen.

    Raises:
        SystemExit: it failed; the log's last lines are shown.
    """
    print("+", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE if log else None,
        stderr=subprocess.STDOUT if log else None,
        text=True,
        check=False,
    )
    if log:
        with log.open("a", encoding="utf-8") as file:
            file.write(done.stdout)
    if done.returncode:
        print("\n".join((done.stdout or "").splitlines()[-20:]), file=sys.stderr)
        raise SystemExit(f"failed with {done.returncode}: {' '.join(arguments)}")


if __name__ == "__main__":
    main()
