"""The model card of an exported SALMONN, in Markdown.

It tells from facts without token and folders what a finder of the files must know: what it is, what it is made of, how
it was trained, what it reached, how to load it, whose licences it is under.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WHAT_IT_IS = """\
The trained part of a SALMONN (Tang et al. 2023, arXiv:2310.13289): it hears speech, sounds and music and answers in
text. Two encoders listen, a window-level Q-Former and a projection turn what they hear into tokens, and a language
model {language_model} reads them inside its prompt."""
_MERGED = """\
* Merging rounds the sums of weights and adapter to the weights' precision. In 16 bits answers may differ in places from
  those of the separate adapter."""
_HOW_TO_LOAD = """\
With audiolm-trainer: section `model` of a configuration for `cli_inference.py`, `web_demo.py`, the evaluator, or as the
start of further training. Names without a folder are files and folders of yours."""
_TERMS = """\
These weights are of use only together with, and are derived from, works with licences of their own. They bind you as
well; look at each page for what holds now."""
_LIMITS = """\
* It hears one channel at 16 kHz, as far as the Whisper encoder's window reaches (30 s for OpenAI's).
* It answers fluently when it is wrong: it can name sounds and words that are not there.
* It knows the languages, voices, sounds and prompts that it and its parts were trained with, and has their biases.
* Figures above are of one validation set. Measure it on your own data before relying on it."""
_FILES: Mapping[str, str] = {
    "pth": "one `.pth` file in the layout of the released SALMONN checkpoints; other programs for them read it",
    "safetensors": "one `.safetensors` file with the released names; it holds no code",
    "peft": "the LoRA adapter as a peft folder; Q-Former, norms, query tokens and projection in `bridge.safetensors`",
    "merged": "the language model with the adapter merged into its weights, its tokenizer; Q-Former, norms, query\n"
    "  tokens and projection in `bridge.safetensors`",
}
_WHOLE_FOLDER = (
    "the language model as it was trained, its tokenizer; Q-Former, norms, query tokens and projection in\n"
    "  `bridge.safetensors`"
)
_FIGURES: Mapping[str, str] = {
    "accuracy": "token accuracy, teacher-forced (0 to 1)",
    "loss": "loss per target token",
    "wer": "word error rate of the answers",
    "chrf": "chrF of the answers (0 to 100)",
}
_SETTINGS: Mapping[str, str] = {
    "batch_size_train": "samples in a batch of one process",
    "world_size": "processes",
    "accum_grad_iters": "batches in an optimizer step",
    "iters_per_epoch": "batches in an epoch",
    "max_epoch": "epochs",
    "init_lr": "learning rate",
    "warmup_steps": "warm-up steps",
    "min_lr": "lowest learning rate",
    "weight_decay": "weight decay",
    "beta2": "beta 2",
    "max_grad_norm": "gradient norm, 0 for no limit",
    "precision": "precision asked for",
    "seed": "seed",
}
# In a language model's name -> what is known of its licence. The first that occurs counts.
_LLM_LICENCES: tuple[tuple[str, str], ...] = (
    ("vicuna", "fine-tuned from Llama: Meta's licence for that Llama, and the terms on Vicuna's own page"),
    (
        "llama-3",
        "Meta's community licence for this Llama. It asks those who pass on a model made with it for a copy of the\n"
        '  licence, a name that begins with "Llama" and the words "Built with Llama": read it',
    ),
    ("llama", "Meta's licence for this Llama, where it is one of Meta's"),
)
_SNIPPET = (
    *("lora", "lora_rank", "lora_alpha", "lora_target_modules"),
    *("window_level_Qformer", "num_speech_query_token", "context_seconds", "second_per_window", "second_stride"),
    *("prompt_template", "end_sym"),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers (parameters) of each part; 0 for a part that is not there."""

    whisper: int
    beats: int
    llm: int
    bridge: int
    lora: int


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says.

    Attributes:
        name: of the exported file or folder.
        form: "pth", "safetensors", "peft" or "merged".
        config: the exported configuration, shareable.
        recorded: the checkpoint's own configuration, shareable; {} where it has none.
        epoch: of the checkpoint, counted from 0; None where it does not say.
        step: steps done; None where it does not say.
        best: figures of the best validation so far, {} for none.
        best_step: steps done at that validation.
        dtypes: of the trained part as written.
        sizes: of the parts.
        llm_trained: the language model's own weights were trained, and are in the files.
    """

    name: str
    form: str
    config: Mapping[str, Mapping[str, Any]]
    recorded: Mapping[str, Mapping[str, Any]]
    epoch: int | None
    step: int | None
    best: Mapping[str, float]
    best_step: int | None
    dtypes: tuple[str, ...]
    sizes: Sizes
    llm_trained: bool = False


def write_card(path: Path, facts: CardFacts) -> None:
    """Write the card of an export."""
    path.write_text(render_card(facts), encoding="utf-8", errors="backslashreplace")


def render_card(facts: CardFacts) -> str:
    """Return the card as Markdown, with the front matter that model hubs read."""
    parts = (_front_matter, _introduction, _components, _training, _validation, _loading, _licences, _limits)
    return "\n".join("\n".join(part(facts)) + "\n" for part in parts)


def _front_matter(facts: CardFacts) -> Iterable[str]:
    bases = [name for name in _names(facts) if "/" in name]
    yield "---"
    yield "license: other"
    yield "pipeline_tag: audio-text-to-text"
    yield "tags: [salmonn, speech, audio]"
    if bases:
        yield f"base_model: {json.dumps(bases)}"
    yield "---"


def _introduction(facts: CardFacts) -> Iterable[str]:
    sizes = facts.sizes
    llm = ("language model", sizes.llm) if facts.llm_trained else ("LoRA", sizes.lora)
    read_by = "that was trained with them" if facts.llm_trained else "with a LoRA adapter"
    files = _WHOLE_FOLDER if facts.form == "merged" and facts.llm_trained else _FILES[facts.form]
    yield f"# {facts.name}"
    yield ""
    yield _WHAT_IT_IS.format(language_model=read_by)
    yield ""
    yield f"* Files: {files}."
    yield f"* Trained: {sizes.bridge + llm[1]:,} numbers ({sizes.bridge:,} bridge, {llm[1]:,} {llm[0]}), " + (
        f"stored as {' and '.join(facts.dtypes)}."
    )
    if facts.form == "merged" and not facts.llm_trained:
        yield _MERGED


def _components(facts: CardFacts) -> Iterable[str]:
    model, sizes = facts.config["model"], facts.sizes
    yield "## Made of"
    yield ""
    yield "| part | name | numbers |"
    yield "| --- | --- | --- |"
    trained = ", trained" if facts.llm_trained else ""
    yield f"| language model | `{model['llama_path']}`{trained} | {sizes.llm:,} |"
    yield f"| Whisper encoder | `{model['whisper_path']}` | {sizes.whisper:,} |"
    if sizes.beats:
        own = model["audio_encoder"] != "beats"
        what = f"audio encoder | `{model['audio_encoder']}`" if own else f"BEATs encoder | `{model['beats_path']}`"
        yield f"| {what} | {sizes.beats:,} |"
    yield f"| Q-Former, norms, queries, projection | trained | {sizes.bridge:,} |"
    if sizes.lora:
        what = f"rank {model['lora_rank']}, alpha {model['lora_alpha']}, on {', '.join(model['lora_target_modules'])}"
        yield f"| LoRA, {what} | trained | {sizes.lora:,} |"
    yield ""
    outside = [] if facts.form == "merged" else ["The language model's tokenizer" if trained else "The language model"]
    named = "BEATs" if model["audio_encoder"] == "beats" else "the audio encoder"
    outside += ["Whisper", named] if sizes.beats else ["Whisper"]
    listed = " and ".join(filter(None, (", ".join(outside[:-1]), outside[-1])))
    yield f"{listed} {'are' if len(outside) > 1 else 'is'} not in these files."
    if not sizes.beats:
        yield ""
        yield 'It was trained without BEATs (`beats_path: ""`): it hears with Whisper alone.'


def _training(facts: CardFacts) -> Iterable[str]:
    yield "## Training"
    yield ""
    run = facts.recorded.get("run", {})
    values = {**run, **run.get("optims", {})}
    rows = [(label, values[key]) for key, label in _SETTINGS.items() if key in values]
    rows += [("steps done", facts.step)] if facts.step is not None else []
    rows += [("epoch, counted from 0", facts.epoch)] if facts.epoch is not None else []
    annotation = facts.recorded.get("datasets", {}).get("train_ann_path")
    rows += [("training set", f"`{annotation}`")] if annotation else []
    if not rows:
        yield "The checkpoint does not say how it was trained."
        return
    yield "| setting | value |"
    yield "| --- | --- |"
    for label, value in rows:
        yield f"| {label} | {value} |"


def _validation(facts: CardFacts) -> Iterable[str]:
    yield "## Validation"
    yield ""
    if not facts.best:
        yield "The checkpoint carries no validation figures."
        return
    here = facts.best_step is not None and facts.best_step == facts.step
    when = "of this checkpoint" if here else f"of the best one so far, at step {facts.best_step}"
    yield f"On the validation set of the training run, figures {when}:"
    yield ""
    yield "| figure | value |"
    yield "| --- | --- |"
    for key, value in facts.best.items():
        yield f"| {_FIGURES.get(key, key)} | {value:.4f} |"


def _loading(facts: CardFacts) -> Iterable[str]:
    model = dict(facts.config["model"])
    file = {"peft": "/adapter_model.safetensors", "merged": "/bridge.safetensors"}.get(facts.form, "")
    merged = facts.form == "merged"
    keys = [key for key in _SNIPPET if not ((merged or facts.llm_trained) and key.startswith("lora_"))]
    values = {
        **{key: model[key] for key in ("llama_path", "whisper_path", "beats_path", "qformer_path")},
        "ckpt": f"{facts.name}{file}",
        **{key: model[key] for key in keys},
    }
    if model["audio_encoder"] != "beats":
        values |= {key: model[key] for key in ("audio_encoder", "audio_encoder_path")}
    if model["quantize"]["kind"] != "none" and not merged:
        values["quantize"] = model["quantize"]
    if merged:
        values |= {"llama_path": facts.name, "lora": False}
    yield "## Loading"
    yield ""
    yield _HOW_TO_LOAD
    yield ""
    yield "```yaml"
    yield "model:"
    for key, value in values.items():
        yield f"  {key}: {json.dumps(value, ensure_ascii=False)}"
    yield "```"
    if facts.form == "peft":
        yield ""
        yield f"The adapter alone, which hears nothing: `PeftModel.from_pretrained(language_model, {facts.name!r})`."
    if facts.form == "pth":
        yield ""
        yield 'In PyTorch: `torch.load(path, weights_only=True)["model"]`.'


def _licences(facts: CardFacts) -> Iterable[str]:
    model = facts.config["model"]
    name = str(model["llama_path"])
    known = next((text for part, text in _LLM_LICENCES if part in name.lower()), "as its own page says")
    yield "## Licences"
    yield ""
    yield _TERMS
    yield ""
    yield f"* language model `{name}`: {known}"
    yield f"* Whisper `{model['whisper_path']}`: OpenAI's models are MIT in OpenAI's repository, Apache-2.0 on the hub"
    if model["beats_path"] and model["audio_encoder"] == "beats":
        yield f"* BEATs `{model['beats_path']}`: Microsoft's models are MIT"
    yield "* the recordings and texts it was trained on: as their own pages say"


def _limits(_: CardFacts) -> Iterable[str]:
    yield "## Limits"
    yield ""
    yield _LIMITS


def _names(facts: CardFacts) -> list[str]:
    model = facts.config["model"]
    return [str(model[key]) for key in ("llama_path", "whisper_path")]
