"""Measures the nano model on data/sample, by `python -m nano.measure`: words, captions, and which sounds are named.

A configuration and the sample folder go in; a dictionary of figures comes out, with two yardsticks for captions:
a fresh true paraphrase and another clip's caption. Needs jiwer and aac-metrics besides the trainer's own packages.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from nano.captions import draw_caption, named_events
from salmonn.audio.loading import load_audio
from salmonn.config.config import load_config
from salmonn.inference.inference import SalmonnLM, load_language_model

PARAPHRASES = 20
TRAINER = Path(__file__).resolve().parents[1]
DECODE = TRAINER / "configs" / "nano" / "decode.yaml"
SAMPLE = TRAINER.parent / "data" / "sample"


@dataclass(frozen=True, slots=True)
class _Request:
    index: int
    audio: NDArray[np.float32]
    task: str
    question: str = ""


def measure(config: Path, sample: Path, *, options: Sequence[str] = ()) -> dict[str, Any]:
    """Answer every clip of data/sample and score the answers.

    Args:
        config: A configuration of the trainer, such as configs/nano/decode.yaml.
        sample: The folder data/sample.
        options: Overrides of the configuration.

    Returns:
        Figures by name; rates are shares from 0 to 1, CIDEr-D is on its own scale from 0 to 10.
    """
    settings = load_config(config, options, purpose="answer")
    model = load_language_model(settings, settings.run.device)
    figures: dict[str, Any] = {}
    for name, score in (("asr", _score_speech), ("aac", _score_captions)):
        rows = json.loads((sample / f"{name}.json").read_text(encoding="utf-8"))["annotation"]
        started = time.monotonic()
        texts = _answer(model, rows, sample)
        figures[f"{name}_seconds"] = round(time.monotonic() - started, 1)
        figures |= score(rows, texts, sample)
    return figures


def _answer(model: SalmonnLM, rows: Sequence[Mapping[str, Any]], sample: Path) -> list[str]:
    requests = [
        _Request(index, load_audio(sample / row["path"], model.sampling_rate), row["task"])
        for index, row in enumerate(rows)
    ]
    answers = {answer.index: answer.text.strip().lower() for answer in model.generate(requests)}
    return [answers[index] for index in range(len(rows))]


def _score_speech(rows: Sequence[Mapping[str, Any]], texts: Sequence[str], sample: Path) -> dict[str, Any]:
    import jiwer

    voices = json.loads((sample / "voices.json").read_text(encoding="utf-8"))
    groups: dict[str, list[int]] = {"": list(range(len(rows))), "_unseen_voices": [], "_trained_voices": []}
    for index, row in enumerate(rows):
        trained = voices[row["testset_id"]]["trained"]
        groups["_trained_voices" if trained else "_unseen_voices"].append(index)
    figures: dict[str, Any] = {
        f"word_error_rate{name}": jiwer.wer([rows[i]["text"] for i in group], [texts[i] for i in group])
        for name, group in groups.items()
    }
    figures["sentences_right"] = float(np.mean([row["text"] == text for row, text in zip(rows, texts, strict=True)]))
    wrong = [(row["text"], text) for row, text in zip(rows, texts, strict=True) if row["text"] != text]
    return {**_rounded(figures), "wrong_sentences": wrong}


def _score_captions(rows: Sequence[Mapping[str, Any]], texts: Sequence[str], sample: Path) -> dict[str, Any]:
    truths = json.loads((sample / "events.json").read_text(encoding="utf-8"))
    scenes = [truths[row["testset_id"]] for row in rows]
    references = [row["text"] for row in rows]
    paraphrases = [
        _cider_d([draw_caption(Random(seed), scene["kind"], scene["events"]) for scene in scenes], references)
        for seed in range(PARAPHRASES)
    ]
    others = [_another(index, scenes) for index in range(len(rows))]
    figures: dict[str, Any] = {
        "cider_d": _cider_d(texts, references),
        "cider_d_true_paraphrase": float(np.mean(paraphrases)),
        "cider_d_wrong_clip": _cider_d([references[other][0] for other in others], references),
    }
    for kind in ("all", "single", "then", "over"):
        chosen = [i for i, scene in enumerate(scenes) if kind in ("all", scene["kind"])]
        named = [named_events(texts[i]) for i in chosen]
        true = [frozenset(scenes[i]["events"]) for i in chosen]
        pairs = list(zip(named, true, strict=True))
        figures[f"events_named_{kind}"] = float(np.mean([heard >= events for heard, events in pairs]))
        figures[f"events_exact_{kind}"] = float(np.mean([heard == events for heard, events in pairs]))
    wrong = [
        (" ".join(scene["events"]), text)
        for scene, text in zip(scenes, texts, strict=True)
        if named_events(text) != frozenset(scene["events"])
    ]
    return {**_rounded(figures), "wrong_events": wrong}


def _another(index: int, scenes: Sequence[Mapping[str, Any]]) -> int:
    """The next clip that shares no event with this one."""
    events = set(scenes[index]["events"])
    count = len(scenes)
    return next(
        (index + step) % count
        for step in range(1, count)
        if not events.intersection(scenes[(index + step) % count]["events"])
    )


def _cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of texts that are lower-case words already, so that splitting at spaces is the PTB tokenisation."""
    from aac_metrics.functional import cider_d

    corpus, _ = cider_d(list(candidates), [list(texts) for texts in references])
    return float(corpus["cider_d"])


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


@click.command()
@click.option("--cfg-path", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=DECODE)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Override, e.g. generate.num_beams=1.")
def main(cfg_path: Path, options: tuple[str, ...]) -> None:
    """Score a model on data/sample and print the figures as JSON."""
    click.echo(json.dumps(measure(cfg_path, SAMPLE, options=options), indent=1))


if __name__ == "__main__":
    main()
