"""A SALMONN of real parts, trained, quantised and measured: `python benchmarks/real_parts.py PARTS`.

PARTS holds `whisper-tiny-en/` (Whisper tiny.en), `smollm2/` (SmolLM2-135M-Instruct), both as folders of transformers,
and `speech/train.json` and `speech/valid.json`, annotations of real speech with the field `seconds`; espeak-ng has to
be installed. audiolm-trainer/configs/real/train.yaml is trained as `train.py` does it, from where an earlier run ended.
Then the clips of valid.json are transcribed in float32, int8 and NF4, the components are clocked by the challenge's
protocol, and the answers of both decoders are compared. Everything lies in real_parts_results/; what is there is not
made again. On two cores that other work shares it takes well over an hour.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from compress_nano import efficiency, read, run
from loss_curve import draw
from real_speech import write_training_set
from transformers import GenerationConfig

from salmonn.audio.loading import load_audio
from salmonn.config.config import load_config
from salmonn.decoding.decoder import Decoder
from salmonn.decoding.decoder_settings import DecoderSettings
from salmonn.decoding.transformers_decoding import generate_ids
from salmonn.inference.inference import load_language_model

ROOT = Path(__file__).resolve().parents[1]
TRAINER = ROOT / "audiolm-trainer"
CONFIG = TRAINER / "configs" / "real" / "train.yaml"
NEEDED = ("whisper-tiny-en/config.json", "smollm2/tokenizer.json", "speech/train.json", "speech/valid.json")
KINDS = ("none", "int8", "nf4")
BEAMS = (1, 4)


def main() -> None:
    """Train, measure, and write report.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", type=Path, metavar="PARTS", help="the folder of the parts")
    parser.add_argument("--output", type=Path, default=ROOT / "real_parts_results")
    parser.add_argument("--clips", type=int, help="compare the decoders on the first so many clips; all by default")
    parser.add_argument("--as-trained", action="store_true", help="measure the best checkpoint so far")
    options = parser.parse_args()
    parts, output = options.parts.absolute(), options.output.absolute()
    missing = [name for name in NEEDED if not (parts / name).is_file()]
    if missing:
        raise SystemExit(f"{parts} has no {', '.join(missing)}: see the beginning of {Path(__file__).name}")
    if shutil.which("espeak-ng") is None and not (output / "train.json").exists():
        raise SystemExit("espeak-ng, which speaks a part of the training set, is not installed")
    output.mkdir(parents=True, exist_ok=True)
    annotation = write_training_set(parts / "speech" / "train.json", output)
    settings = settings_of(parts, annotation, output)
    if not options.as_trained:
        command = ["train.py", "--cfg-path", str(CONFIG), "--resume", "auto", "--options", *settings]
        run(command, cwd=TRAINER, log=output / "training.log", OMP_NUM_THREADS="1")
    training = max(path.parent for path in output.glob("training/*/checkpoint_best.pth"))
    settings += [f"model.ckpt={json.dumps(str(training / 'checkpoint_best.pth'))}", "model.dtype=float32"]
    tables = [
        lambda: validations(training, output),
        lambda: table_of_kinds(settings, output),
        lambda: components(output),
        lambda: decoders(settings, parts, options.clips),
    ]
    with (output / "report.md").open("w", encoding="utf-8") as report:
        for table in tables:
            text = "\n".join(table()) + "\n"
            report.write(text + "\n")
            report.flush()
            print(text, flush=True)


def settings_of(parts: Path, annotation: Path, output: Path) -> list[str]:
    """The settings that name files."""
    valid = str(parts / "speech" / "valid.json")
    named = {
        "model.llama_path": str(parts / "smollm2"),
        "model.whisper_path": str(parts / "whisper-tiny-en"),
        "datasets.train_ann_path": str(annotation),
        "datasets.valid_ann_path": valid,
        "datasets.test_ann_path_asr": valid,
        "datasets.cache_dir": str(output / "cache"),
        "run.output_dir": str(output / "training"),
    }
    return [f"{key}={json.dumps(value)}" for key, value in named.items()]


def validations(training: Path, output: Path) -> list[str]:
    """Draw the loss of training and validation, and list the validations."""
    rows = [json.loads(line) for line in (training / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = [row for row in rows if "valid/loss" in row]
    curves = {
        "training": [(row["step"], row["step/loss"]) for row in rows if "step/loss" in row],
        "validation": [(row["step"], row["valid/loss"]) for row in valid],
    }
    (output / "loss.svg").write_text(draw(curves, "steps", "loss, nats a token"), encoding="utf-8")
    lines = ["| after step | validation loss | token accuracy | WER |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| {row['step']} | {row['valid/loss']:.3f} | {row['valid/accuracy']:.1%} | {row['valid/wer']:.1%} |"
        for row in valid
    ]


def quantised(kind: str) -> list[str]:
    """The setting of a kind of weights."""
    return [] if kind == "none" else [f"model.quantize={{kind: {kind}, parts: [llm, whisper]}}"]


def table_of_kinds(settings: list[str], output: Path) -> list[str]:
    """Transcribe and clock with every kind of weights."""
    lines = ["| weights | language model | Whisper | WER [95 %] | CER | TTFT + TPOT |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for kind in KINDS:
        folder = output / kind
        more = ["--cfg-path", str(CONFIG), "--output-dir", str(folder), "--options", *settings, *quantised(kind)]
        if not list(folder.glob("valid_results/*/scores.json")):
            run(
                ["evaluate_salmonn.py", "--mode", "valid_asr", *more, "run.latency_clips=0"],
                log=output / "measuring.log",
            )
        if not efficiency(folder):
            clocked = ["--efficiency", "--protocol", "challenge", "--processes", "1"]
            run(["evaluate_salmonn.py", *clocked, *more], log=output / "measuring.log")
        lines.append(row_of(kind, folder))
    return lines


def row_of(kind: str, folder: Path) -> str:
    """One kind's row."""
    [scored] = folder.glob("valid_results/*/scores.json")
    scores = {metric["name"]: metric for metric in read(scored)["metrics"]}
    wer, clocked = scores["wer"], efficiency(folder)
    held, figures = clocked["challenge"]["components"], clocked["challenge"]["figures"]
    waited = sum(figures[f"waited_{name}_seconds"]["median"] for name in ("ttft", "tpot"))
    interval = f"[{100 * wer['interval']['low']:.1f}, {100 * wer['interval']['high']:.1f}]"
    cells = (
        "float32" if kind == "none" else f"`{kind}`",
        f"{held['prompt']['weights_bytes'] / 1e6:.1f} MB",
        f"{held['whisper']['weights_bytes'] / 1e6:.1f} MB",
        f"{wer['value']:.1%} {interval}",
        f"{scores['cer']['value']:.1%}",
        f"{1000 * waited:.0f} ms",
    )
    return f"| {' | '.join(cells)} |"


def components(output: Path) -> list[str]:
    """Time and weights of every component, float32."""
    costs = efficiency(output / "none")["challenge"]["components"]
    lines = ["| component | ms | weights, bytes | activations, bytes |", "| --- | --- | --- | --- |"]
    for name, cost in costs.items():
        held, beside = cost["weights_bytes"], cost["activations_bytes"]
        lines.append(f"| {name} | {1000 * cost['seconds']['median']:.2f} | {held:,} | {beside:,} |")
    return lines


def decoders(settings: list[str], parts: Path, clips: int | None) -> list[str]:
    """Count the clips for which the package's decoder and transformers' `generate` choose the same tokens.

    transformers answers one clip after the other; the package's decoder does so, and has all at work at a time.
    """
    rows = read(parts / "speech" / "valid.json")["annotation"][:clips]
    lines = ["| weights | beams | equal, one clip after the other | equal, all clips together |"]
    lines += ["| --- | --- | --- | --- |"]
    for kind in KINDS:
        lm = load_language_model(load_config(CONFIG, [*settings, *quantised(kind)]), "cpu")
        model = lm.model
        prompt = lm.prompts.prompt("asr")
        with torch.no_grad():
            waves = [load_audio(Path(row["path"])) for row in rows]
            prompts = [model.wrap(model.embed(model.encode([wave]))[0], prompt) for wave in waves]
        for beams in BEAMS:
            asked = GenerationConfig.from_dict(lm.settings.to_dict() | {"num_beams": beams})
            with torch.no_grad():
                expected = [generate_ids(model.llm, [each], asked)[0] for each in prompts]
            equal = []
            for slots in (1, len(prompts)):
                decoder = Decoder(model.llm, DecoderSettings.from_transformers(asked, model.llm), slots=slots)
                found = dict(decoder.decode(enumerate(prompts)))
                equal.append(sum(found[place] == ids for place, ids in enumerate(expected)))
            named = "float32" if kind == "none" else f"`{kind}`"
            alone, together = (f"{number} of {len(prompts)}" for number in equal)
            lines.append(f"| {named} | {beams} | {alone} | {together} |")
    return lines


if __name__ == "__main__":
    main()
