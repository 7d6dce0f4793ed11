"""A trained SALMONN in the forms that others can use: the original's `.pth`, `.safetensors`, a peft adapter, or merged.

The files get a model card. The checkpoint of the configuration is compared with the configured model's names and shapes
first. What is written carries no optimizer, no random states, no token and no folder of this machine.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from salmonn.config.recorded import disagreements, recorded_config, recorded_tasks
from salmonn.config.schema import Config
from salmonn.device import DTYPES, dtype_name
from salmonn.errors import CheckpointError, ConfigError
from salmonn.export.model_card import CardFacts, Sizes, write_card
from salmonn.model import components
from salmonn.model.lora_merge import merge_adapter
from salmonn.model.meta import build_meta_model, llm_sizes
from salmonn.model.salmonn import SALMONN
from salmonn.quantization.folders import folder_method
from salmonn.weights.atomic_write import whole_file, whole_folder
from salmonn.weights.checkpoint import (
    LAYOUT,
    LAYOUT_KEY,
    LLM_PREFIX,
    check_fit,
    copy_strictly,
    holds_language_model,
    is_own_weight,
    read_checkpoint,
    trained_part,
)
from salmonn.weights.exported_folder import ADAPTER_CONFIG, ADAPTER_FILE, BRIDGE_FILE, Form
from salmonn.weights.misfit import causes_of_misfit

logger = logging.getLogger(__name__)

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Trained:
    """The trained part of a checkpoint, compared with the configured model.

    Attributes:
        tensors: released names -> tensors, in the model's order.
        config: what may be passed on of the configuration.
        epoch: epochs done before the current one, None where the file does not say.
        step: steps done, None where the file does not say.
        tasks: what it was trained with, () where the file does not say.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    epoch: int | None
    step: int | None
    tasks: tuple[str, ...]

    def adapter(self) -> dict[str, Tensor]:
        """The LoRA tensors."""
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if name.startswith(LLM_PREFIX) and not is_own_weight(name)
        }

    def llm(self) -> dict[str, Tensor]:
        """The language model's own weights, where they were trained."""
        return {name: tensor for name, tensor in self.tensors.items() if is_own_weight(name)}

    def bridge(self) -> dict[str, Tensor]:
        """Everything but what belongs to the language model."""
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith(LLM_PREFIX)}

    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def export_model(config: Config, *, form: Form, output: Path, dtype: str | None = None, force: bool = False) -> Path:
    """Write a trained model in one of the forms, with its card.

    Args:
        config: names the components and the checkpoint, `model.ckpt`.
        form: "pth" and "safetensors" write a file with the released names, "peft" a folder with the adapter and the
            bridge, "merged" a folder with the language model, adapter merged in or as it was trained, and the bridge.
        output: the file or folder to write.
        dtype: "float32", "bfloat16" or "float16" for what is written; None keeps what the files have.
        force: replace an earlier export of the same name.

    Returns:
        The card.

    Raises:
        ConfigError: the configuration names no checkpoint, or a form that cannot be had.
        CheckpointError: the checkpoint does not fit, the target exists, or it cannot be written.
    """
    _check_request(config, form, output)
    _check_target(output, folder=form in ("peft", "merged"), force=force)
    source = Path(config.model.checkpoint_path)
    data = read_checkpoint(source)
    _check_form(config, form, whole=holds_language_model(data["model"]))
    meta = build_meta_model(config, offline=False)
    trained = _trained(config, data, meta, dtype=DTYPES[dtype] if dtype else None)
    facts = _card_facts(config, trained, data, meta, form=form, name=output.name)
    if form == "pth":
        return _write_pth(trained, output, facts)
    if form == "safetensors":
        return _write_safetensors(trained, output, facts)
    if form == "peft":
        return _write_adapter(config, trained, output, facts)
    return _write_merged(config, trained, output, facts, dtype=dtype)


def _check_request(config: Config, form: Form, output: Path) -> None:
    problems = []
    if not config.model.checkpoint_path:
        named = config.model.ckpt or "empty"
        problems.append(("model.ckpt", f"names no checkpoint ({named}): name the one to export here or with --ckpt"))
    if form in ("pth", "safetensors") and output.suffix != f".{form}":
        problems.append(("--output", f"{output.name} must end in .{form}: loaders go by the ending"))
    if problems:
        raise ConfigError(f"nothing can be exported as {form}", problems)


def _check_form(config: Config, form: Form, *, whole: bool) -> None:
    """Refuse a form for which a checkpoint has nothing; `whole` ones hold the language model's own weights."""
    if config.model.lora or form in ("pth", "safetensors") or (whole and form == "merged"):
        return
    instead = "pth, safetensors or merged" if whole else "pth or safetensors"
    text = f"is False: there is no adapter for the form {form}; use {instead}"
    raise ConfigError(f"nothing can be exported as {form}", [("model.lora", text)])


def _check_target(output: Path, *, folder: bool, force: bool) -> None:
    """Refuse to replace what is there; with `force` an earlier export is replaced, and nothing else.

    Raises:
        CheckpointError: says what is in the way.
    """
    if not output.exists():
        return
    if not force:
        raise CheckpointError(f"{str(output)!r} exists: choose another --output, or --force to replace it")
    if output.is_dir() != folder:
        raise CheckpointError(f"{str(output)!r} is not what would be written there: choose another --output")
    foreign = folder and not (output / BRIDGE_FILE).is_file()
    if foreign or (folder and any(item.is_dir() for item in output.iterdir())):
        raise CheckpointError(f"{str(output)!r} is no earlier export (it is never replaced): choose another --output")


def _trained(config: Config, data: Mapping[str, Any], meta: SALMONN, *, dtype: torch.dtype | None) -> Trained:
    """Compare a checkpoint with the configured model and take what may be passed on.

    Raises:
        CheckpointError: keys or shapes differ, or it was trained with settings that compute something else.
    """
    source = config.model.ckpt
    meta.llm_in_checkpoint = holds_language_model(data["model"])
    expected = meta.trained_state_dict()
    found = trained_part(data["model"])
    held, needed = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (found, expected))
    causes = causes_of_misfit(held, needed, config.model)
    if causes:
        lines = [f"{source!r} does not fit the configured parts:", *(f"  {key} {text}" for key, text in causes)]
        raise CheckpointError("\n".join(lines))
    check_fit(found, expected, source=source)
    recorded = recorded_config(data.get("config"))
    different = disagreements(recorded, config.shareable())
    if different:
        raise CheckpointError("\n".join([f"{source!r} was trained with other settings:", *different]))
    entries = {key: data.get(key) for key in ("epoch", "step")}
    return Trained(
        tensors={name: _stored(name, found[name], dtype) for name in expected},
        config=recorded | {key: config.shareable()[key] for key in ("model", "generate")},
        epoch=entries["epoch"] if isinstance(entries["epoch"], int) else None,
        step=entries["step"] if isinstance(entries["step"], int) else None,
        tasks=recorded_tasks(data.get("tasks")),
    )


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor of its own memory in the dtype to write."""
    stored = tensor.detach().to(dtype or tensor.dtype, copy=True).contiguous()
    if not bool(torch.isfinite(stored).all()):
        raise CheckpointError(f"{name} holds values that are not finite in {stored.dtype}: it cannot be passed on so")
    return stored


def _write_pth(trained: Trained, output: Path, facts: CardFacts) -> Path:
    """The original trainer's entries; its readers use only "model"."""
    entries: dict[str, Any] = {"model": trained.tensors, "optimizer": None, "scaler": None, "config": trained.config}
    entries |= _training_notes(trained)
    card = _card_beside(output)
    with whole_file(output, size=trained.size()) as unfinished, whole_file(card, size=0) as unfinished_card:
        with unfinished.open("wb") as file:
            torch.save(entries, file)
        write_card(unfinished_card, facts)
    return card


def _write_safetensors(trained: Trained, output: Path, facts: CardFacts) -> Path:
    card = _card_beside(output)
    with whole_file(output, size=trained.size()) as unfinished, whole_file(card, size=0) as unfinished_card:
        save_file(trained.tensors, unfinished, metadata=_notes(trained))
        write_card(unfinished_card, facts)
    return card


def _write_adapter(config: Config, trained: Trained, output: Path, facts: CardFacts) -> Path:
    """A folder that peft's `PeftModel.from_pretrained` reads, and the bridge beside it."""
    with whole_folder(output, size=trained.size()) as folder:
        # peft leaves the adapter's own name out of the keys.
        adapter = {
            name.removeprefix(LLM_PREFIX).replace(".default.weight", ".weight"): tensor
            for name, tensor in trained.adapter().items()
        }
        save_file(adapter, folder / ADAPTER_FILE, metadata={"format": "pt"})
        settings = json.dumps(_adapter_settings(config), indent=2, sort_keys=True)
        (folder / ADAPTER_CONFIG).write_text(settings + "\n", encoding="utf-8")
        save_file(trained.bridge(), folder / BRIDGE_FILE, metadata=_notes(trained))
        write_card(folder / CARD, facts)
    return output / CARD


def _adapter_settings(config: Config) -> dict[str, Any]:
    """adapter_config.json as peft writes it, with the language model's name instead of its place."""
    name = config.shareable()["model"]["llama_path"]
    adapter: Any = components.lora_config(config.model, base_model_name_or_path=name, inference_mode=True)
    # A set has no order of its own, and JSON has no sets.
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in adapter.to_dict().items()}
    return plain | {"peft_version": metadata.version("peft")}


def _write_merged(config: Config, trained: Trained, output: Path, facts: CardFacts, *, dtype: str | None) -> Path:
    """The language model with the adapter added to its weights or as it was trained, its tokenizer, and the bridge."""
    llm = _merged_llm(config, trained, dtype)
    tokenizer = components.load_tokenizer(config.model.llama_path, config.token)
    size = sum(tensor.nbytes for tensor in (*trained.bridge().values(), *llm.parameters()))
    with whole_folder(output, size=size) as folder:
        llm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(trained.bridge(), folder / BRIDGE_FILE, metadata=_notes(trained, lora=False))
        write_card(folder / CARD, facts)
    return output / CARD


def _merged_llm(config: Config, trained: Trained, dtype: str | None) -> PreTrainedModel:
    parts = config.model
    if method := folder_method(llm_sizes(parts.llama_path, token=config.token, offline=False)):
        raise CheckpointError(
            f"{parts.llama_path!r} is quantised ({method}), and an adapter cannot be merged into it: export as peft, "
            "or name the language model's own folder in model.llama_path"
        )
    held = _llm_dtype(config, trained, dtype)
    llm = components.load_llm(parts.llama_path, device=torch.device("cpu"), dtype=held, token=config.token)
    if parts.lora:
        adapted = components.add_lora(llm, components.lora_config(parts), drawn=False)
        target = {f"{LLM_PREFIX}{name}": p for name, p in adapted.named_parameters() if ".lora_" in name}
        copy_strictly(trained.adapter(), target, source=parts.ckpt)
        merged = merge_adapter(adapted).llm
    else:
        merged = llm
        copy_strictly(
            trained.llm(), {f"{LLM_PREFIX}{name}": p for name, p in llm.named_parameters()}, source=parts.ckpt
        )
    # The folder that the model came from is nobody else's business.
    merged.config.name_or_path = ""
    settings = merged.generation_config
    if settings is not None and not settings.do_sample and (settings.temperature or settings.top_p):
        # transformers reads a temperature without sampling, as Vicuna's files have it, and refuses to write it.
        settings.do_sample = True
    return merged


def _llm_dtype(config: Config, trained: Trained, dtype: str | None) -> torch.dtype:
    """The dtype to write: the asked one, else that of trained weights, or to merge in the language model's files'."""
    if dtype:
        return DTYPES[dtype]
    if own := trained.llm():
        return next(iter(own.values())).dtype
    stored = AutoConfig.from_pretrained(config.model.llama_path, token=config.token).dtype
    return stored if isinstance(stored, torch.dtype) else torch.float32


def _training_notes(trained: Trained) -> dict[str, Any]:
    """What the file says of its training besides the configuration."""
    found = {"epoch": trained.epoch, "step": trained.step, "tasks": list(trained.tasks) or None}
    return {key: value for key, value in found.items() if value is not None}


def _notes(trained: Trained, *, lora: bool = True) -> dict[str, str]:
    """A .safetensors file's metadata: strings only."""
    config = dict(trained.config)
    if not lora:
        config["model"] = {**config["model"], "lora": False, "freeze_llm": True}
    notes = {"config": config, **_training_notes(trained)}
    return {"format": "pt", LAYOUT_KEY: LAYOUT} | {key: json.dumps(value) for key, value in notes.items()}


def _card_beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.md")


def _card_facts(
    config: Config, trained: Trained, data: Mapping[str, Any], meta: SALMONN, *, form: Form, name: str
) -> CardFacts:
    encoder = meta.speech_encoder
    llm = sum(p.numel() for n, p in meta.llm.named_parameters() if ".lora_" not in n)
    progress = data.get("progress")
    best = progress.get("best") if isinstance(progress, Mapping) else None
    best_step = progress.get("best_step") if isinstance(progress, Mapping) else None
    return CardFacts(
        name=name,
        form=form,
        config=trained.config,
        recorded=recorded_config(data.get("config")),
        epoch=trained.epoch,
        step=trained.step,
        best={str(key): float(value) for key, value in best.items()} if isinstance(best, Mapping) else {},
        best_step=best_step if isinstance(best_step, int) else None,
        dtypes=tuple(sorted({dtype_name(t.dtype) for t in trained.tensors.values()})),
        sizes=Sizes(
            whisper=sum(p.numel() for p in encoder.whisper.parameters()),
            beats=0 if encoder.beats is None else sum(p.numel() for p in encoder.beats.parameters()),
            llm=llm,
            bridge=sum(t.numel() for t in trained.bridge().values()),
            lora=sum(t.numel() for t in trained.adapter().values()),
        ),
        llm_trained=meta.llm_in_checkpoint,
    )
