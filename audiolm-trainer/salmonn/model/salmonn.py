"""SALMONN: audio tokens spliced into the prompt of a LoRA-adapted language model (Tang et al. 2023, arXiv:2310.13289).

A sequence is BOS, the prompt up to the audio slot, the W x Q audio tokens, the rest of the prompt and, in training, the
target with its end symbol; there is no padding inside it. Shape letters are explained in `frontend/features.py`.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from salmonn.audio.loading import SAMPLING_RATE
from salmonn.config.choices import LONGEST_CONTEXT
from salmonn.config.recorded import disagreements, recorded_config, recorded_tasks
from salmonn.config.schema import Config, ModelConfig
from salmonn.decoding.decoder_support import without_adapter
from salmonn.decoding.token_text import TokenText
from salmonn.device import DTYPES, to_device
from salmonn.errors import CheckpointError, ConfigError
from salmonn.model import components
from salmonn.model.assembly import load_speech_encoder
from salmonn.model.predicted import LossOutput, Predicted
from salmonn.model.speech_encoder import Encoded, SpeechEncoder
from salmonn.prompts import split_at_audio
from salmonn.quantization.kinds import NO_KIND
from salmonn.quantization.layers import PLAIN, unpack_for_cpu, weights_format
from salmonn.weights.checkpoint import (
    check_tensors,
    copy_strictly,
    fill_from_checkpoint,
    holds_language_model,
    is_own_weight,
    read_checkpoint,
    read_weights,
    released_name,
    report,
)
from salmonn.weights.misfit import whole_beside_quantised

logger = logging.getLogger(__name__)

SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Settings of language models (Gemma 2, Cohere, Granite, Falcon-H1) whose logits are not the head's output as it is."""

OUR_LLM = "llm."


class Distillation(NamedTuple):
    """A larger model that teaches this one what it predicts (Hinton et al. 2015, arXiv:1503.02531).

    Attributes:
        teacher: frozen and in evaluation mode, with the student's encoders and tokens.
        weight: its part of the loss, above 0 and at most 1.
        temperature: of both models' predictions, above 0.
    """

    teacher: "SALMONN"
    weight: float
    temperature: float


class SALMONN(nn.Module):
    """The whole model; build one with `from_config`.

    Args:
        speech_encoder: waveforms -> audio tokens.
        llm: a causal language model, plain or wrapped by peft.
        tokenizer: the language model's.
        end_sym: text that ends a target in training.
        max_txt_len: longest target in tokens, its end symbol included.
    """

    sampling_rate = SAMPLING_RATE

    def __init__(
        self,
        *,
        speech_encoder: SpeechEncoder,
        llm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        end_sym: str,
        max_txt_len: int,
    ) -> None:
        super().__init__()
        self.speech_encoder = speech_encoder
        self.llm = llm
        self.tokenizer = tokenizer
        self.token_text = TokenText(tokenizer)
        self.end_sym = end_sym
        self.max_txt_len = max_txt_len
        # Whether checkpoints of this model hold the language model's own weights, because they are or were trained.
        self.llm_in_checkpoint = False
        # Numbers of an adapter that is no longer beside the language model's weights but in them.
        self.merged_numbers = 0
        self.trained_tasks: tuple[str, ...] = ()
        # No module of its own, so that it is neither trained, saved nor moved.
        self.distillation: Distillation | None = None

    @classmethod
    def from_config(cls, config: Config, *, device: torch.device, dtype: torch.dtype, train: bool = False) -> "SALMONN":
        """Load every part of a configuration, then its checkpoint.

        Args:
            config: a checked configuration.
            device: where the model is put.
            dtype: of the frozen parts; the trained parts are float32 as in the original, a language model that is
                trained itself among them.
            train: leave the trained parts trainable; otherwise everything is frozen.

        Raises:
            CheckpointError: a part cannot be loaded or does not fit; the message names file and keys.
            ConfigError: `train` with `model.merge_lora`.
        """
        parts = config.model
        if train and parts.merge_lora:
            raise ConfigError("a merged adapter cannot be trained: set model.merge_lora to False")
        # What a checkpoint overwrites need not be drawn. Training draws it, so that its random numbers stay the same.
        drawn = train or not parts.checkpoint_path
        kind = parts.quantize.kind_of("llm")
        held = dtype if parts.freeze_llm or not train else torch.float32
        llm = components.load_llm(parts.llama_path, device=device, dtype=held, token=config.token, kind=kind)
        unpack_for_cpu(llm, train=train)
        encoder = load_speech_encoder(
            parts, output_width=llm.config.hidden_size, device=device, dtype=dtype, token=config.token, drawn=drawn
        )
        if parts.lora:
            llm = components.add_lora(llm, components.lora_config(parts), drawn=drawn)
        model = cls(
            speech_encoder=encoder,
            llm=llm,
            tokenizer=components.load_tokenizer(parts.llama_path, config.token),
            end_sym=parts.end_sym,
            max_txt_len=parts.max_txt_len,
        )
        if parts.speech_llama_proj_model:
            model._load_projection(Path(parts.speech_llama_proj_model))
        if parts.checkpoint_path:
            model._load_checkpoint(parts.checkpoint_path, config)
        if parts.bridge_dtype != "float32":
            model.speech_encoder.hold_bridge(DTYPES[parts.bridge_dtype])
        if parts.merge_lora:
            model._merge_adapter()
        model._freeze(parts, train=train)
        return model.train(train)

    def train(self, mode: bool = True) -> "SALMONN":
        """Set training mode for the trained parts only; the frozen encoders stay in evaluation mode."""
        super().train(mode)
        for module in self.speech_encoder.frozen_modules():
            module.eval()
        return self

    def encode(self, waves: Sequence[NDArray[np.float32]]) -> Encoded:
        """Run the frozen encoders on B waveforms, float32 [N] each at 16 kHz; no gradient."""
        return self.speech_encoder.encode(waves)

    def embed(self, encoded: Encoded) -> Tensor:
        """Q-Former and projection: -> [B, W x Q, H] float32."""
        return self.speech_encoder.bridge(encoded)

    def forward(self, encoded: Encoded, prompts: Sequence[str], targets: Sequence[str]) -> LossOutput:
        """Loss of B encoded clips with their filled prompts and target texts; see `loss`.

        Encoding is left out: the encoders are frozen, and what wraps a model for several processes need not know them.
        In training mode the teacher of `distillation` has its part in the loss: it hears the same encodings.
        """
        predicted = self.predict(self.embed(encoded), prompts, targets)
        output = predicted.score()
        if self.distillation is None or not self.training:
            return output
        teacher, weight, temperature = self.distillation
        with torch.no_grad():
            taught = teacher.predict(teacher.embed(encoded), prompts, targets)
        divergence = predicted.divergence(taught, temperature)
        return output._replace(loss_sum=(1 - weight) * output.loss_sum + weight * divergence)

    def wrap(self, speech: Tensor, prompt: str) -> Tensor:
        """Splice one clip's audio tokens into its prompt.

        Args:
            speech: [W x Q, H].
            prompt: filled text with the audio slot once.

        Returns:
            [S, H] in the language model's dtype: BOS, text before the slot, audio, text after it.

        Raises:
            PromptError: the slot is not there exactly once.
        """
        before, after = split_at_audio(prompt)
        bos = self.tokenizer.bos_token_id
        head = ([] if bos is None else [bos]) + self.token_ids(before)
        embedded = self._embed_ids(head)
        return torch.cat([embedded, speech.to(embedded.dtype), self._embed_ids(self.token_ids(after))])

    def loss(self, speech: Tensor, prompts: Sequence[str], targets: Sequence[str]) -> LossOutput:
        """Cross-entropy of the targets, each followed by the end symbol; arguments as of `predict`."""
        return self.predict(speech, prompts, targets).score()

    def predict(self, speech: Tensor, prompts: Sequence[str], targets: Sequence[str]) -> Predicted:
        """Predict every token of the targets, each followed by the end symbol, from what is before it.

        Args:
            speech: [B, W x Q, H].
            prompts: B filled prompts, each with the audio slot once.
            targets: B texts. One longer than `max_txt_len` tokens is cut; its end symbol stays.
        """
        rows = [self.wrap(audio, prompt) for audio, prompt in zip(speech, prompts, strict=True)]
        tokens = [self._target_ids(text) for text in targets]
        embeds = [torch.cat([row, self._embed_ids(ids)]) for row, (ids, _) in zip(rows, tokens, strict=True)]
        lengths = torch.tensor([row.shape[0] for row in embeds], device=speech.device)
        inputs = pad_sequence(embeds, batch_first=True)
        mask = torch.arange(inputs.shape[1], device=speech.device)[None, :] < lengths[:, None]
        # The place before a target predicts it.
        predicting = [
            (clip, rows[clip].shape[0] - 1 + place) for clip, (ids, _) in enumerate(tokens) for place in range(len(ids))
        ]
        clips, places = torch.tensor(predicting, device=speech.device).T
        wanted = torch.tensor([token for ids, _ in tokens for token in ids], device=speech.device)
        logits = self._logits(inputs, mask, clips, places).float()
        return Predicted(logits, wanted, sum(cut for _, cut in tokens))

    def _logits(self, inputs: Tensor, mask: Tensor, clips: Tensor, places: Tensor) -> Tensor:
        """Compute logits [total, V] of chosen places only: over a large vocabulary they cost more than anything else.

        Args:
            inputs: [B, S, H].
            mask: bool [B, S], True = no padding.
            clips: int64 [total], in 0..B - 1.
            places: int64 [total], in 0..S - 1.
        """
        causal = without_adapter(self.llm)
        head = causal.get_output_embeddings()
        if head is None or any(getattr(causal.config, name, None) for name in SCALED_LOGITS):
            # Such models change logits after the head, in their own forward pass.
            output = causal(inputs_embeds=inputs, attention_mask=mask.long(), use_cache=False)
            scaled: Tensor = output.logits[clips, places]
            return scaled
        hidden = causal.get_decoder()(inputs_embeds=inputs, attention_mask=mask.long(), use_cache=False)
        logits: Tensor = head(hidden.last_hidden_state[clips, places])
        return logits

    def token_ids(self, text: str) -> list[int]:
        """Tokenise without special tokens of the tokenizer's own adding."""
        return self.token_text.ids(text)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Released name -> parameter, for every parameter that is trained."""
        return {
            released_name(name): parameter for name, parameter in self.named_parameters() if parameter.requires_grad
        }

    def trained_state_dict(self) -> dict[str, Tensor]:
        """Released name -> tensor of everything that a checkpoint holds, frozen on request or not."""
        return {released_name(name): tensor.detach() for name, tensor in self.checkpoint_parameters().items()}

    def checkpoint_parameters(self) -> dict[str, nn.Parameter]:
        """Our name -> parameter of everything that a checkpoint holds.

        Raises:
            CheckpointError: the adapter is merged, so that a part of it is no parameter any more.
        """
        if self.merged_numbers:
            raise CheckpointError(
                "the adapter is merged into the language model, which leaves no checkpoint to take out or put in: "
                "set model.merge_lora to False"
            )
        return {name: self.get_parameter(name) for name in self._trained_names()}

    def count_trained(self) -> int:
        """Count the numbers that a checkpoint holds; those of a merged adapter are among them."""
        return self.merged_numbers + sum(self.get_parameter(name).numel() for name in self._trained_names())

    def load_trained(self, path: Path) -> dict[str, Any]:
        """Copy the trained part from a checkpoint, and return the file's further entries.

        The language model's own weights are taken from a file that holds them; with another they stay its folder's.

        Raises:
            CheckpointError: naming every key that is missing, unexpected or of another shape; or the file holds the
                language model's weights, and they are quantised here.
        """
        data = read_checkpoint(path)
        tensors = data.pop("model")
        self.llm_in_checkpoint = holds_language_model(tensors)
        form = weights_format(self.llm)
        if self.llm_in_checkpoint and form != PLAIN:
            raise CheckpointError(f"{path} {whole_beside_quantised(form)}")
        fill_from_checkpoint(tensors, self.checkpoint_parameters(), source=str(path))
        return data

    def _trained_names(self) -> list[str]:
        """Our names of what a checkpoint holds: all but the encoders and a frozen language model's own weights."""
        frozen = ("speech_encoder.whisper.", "speech_encoder.beats.")
        return [
            name
            for name, _ in self.named_parameters()
            if not name.startswith(frozen) and (self.llm_in_checkpoint or not is_own_weight(name, prefix=OUR_LLM))
        ]

    def _freeze(self, parts: ModelConfig, *, train: bool) -> None:
        if train and not parts.freeze_llm:
            self.llm_in_checkpoint = True
        frozen = []
        if parts.freeze_speech_QFormer:
            frozen += ["speech_encoder.qformer.", "speech_encoder.query_tokens"]
        if parts.freeze_speech_llama_proj:
            frozen += ["speech_encoder.projection."]
        self.requires_grad_(False)
        for name in self._trained_names() if train else ():
            held = name.startswith(tuple(frozen)) or (parts.freeze_llm and is_own_weight(name, prefix=OUR_LLM))
            self.get_parameter(name).requires_grad_(not held)

    def _load_checkpoint(self, path: str, config: Config) -> None:
        """Load the checkpoint, and refuse one whose tensors mean something else with this configuration."""
        entries = self.load_trained(Path(path))
        recorded = recorded_config(entries.get("config"))
        different = disagreements(recorded, config.public())
        if different:
            raise CheckpointError("\n".join([f"{path} was trained with other settings:", *different]))
        self._say_what_differs(path, recorded.get("model", {}), config.model)
        self.trained_tasks = recorded_tasks(entries.get("tasks"))

    @staticmethod
    def _say_what_differs(path: str, recorded: Mapping[str, Any], parts: ModelConfig) -> None:
        """Log what a checkpoint was trained with otherwise, and computes nearly the same with."""
        # Checkpoints of before do not say it.
        trained, now = recorded.get("context_seconds", LONGEST_CONTEXT), parts.context_seconds
        if trained != now:
            logger.warning(
                "%s was trained with model.context_seconds %g, and hears %g s now: it was not taught to do that",
                *(path, trained, now),
            )
        beside = recorded.get("quantize", {}).get("kind", NO_KIND)
        if beside not in (NO_KIND, parts.quantize.kind):
            logger.warning(
                "%s was trained beside weights that were %s, and they are %s now", path, beside, parts.quantize.kind
            )

    def _merge_adapter(self) -> None:
        # Here, because only merging needs it, and peft with it.
        from salmonn.model.lora_merge import merge_adapter

        self.llm, self.merged_numbers = merge_adapter(self.llm)

    def _load_projection(self, path: Path) -> None:
        """Copy the projection alone from a file with the released names, as the original's key of that name does."""
        data: dict[str, Any] = read_weights(path)
        state = data["model"] if isinstance(data.get("model"), dict) else data
        check_tensors({k: v for k, v in state.items() if str(k).startswith("speech_llama_proj.")}, path)
        target = {f"speech_llama_proj.{k}": v for k, v in self.speech_encoder.projection.named_parameters()}
        copy_strictly({k: v for k, v in state.items() if k in target}, target, source=str(path))
        report("projection", str(path), target.values())

    def _target_ids(self, text: str) -> tuple[list[int], bool]:
        """Token ids of a target with its end symbol, and whether the text was cut."""
        ids, end = self.token_ids(text), self.token_ids(self.end_sym)
        room = max(self.max_txt_len - len(end), 0)
        return ids[:room] + end, len(ids) > room

    def _embed_ids(self, ids: list[int]) -> Tensor:
        # Called as a module, not indexed: some models scale their embeddings there.
        embedding: Any = self.llm.get_input_embeddings()
        embedded: Tensor = embedding(to_device(ids, embedding.weight.device))
        return embedded
