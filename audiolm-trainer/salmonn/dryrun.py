"""A rehearsal of training without weights or network: one real step of a tiny random SALMONN.

In goes a configuration; its settings, prompts, annotations and clips are the real ones, only the model is
tiny. Where an annotation is not there yet, two made-up clips stand in for it, and the report says so.
Nothing is saved.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn.audio import SAMPLING_RATE
from salmonn.beats import BEATs, BEATsConfig
from salmonn.components import add_lora, choose_device, qformer_config
from salmonn.config import Config, find_problems
from salmonn.dataset import Sample, read_annotation
from salmonn.encoded_source import LiveEncoded
from salmonn.features import FrontEnd
from salmonn.model import SALMONN
from salmonn.prompts import PromptBook, train_prompts
from salmonn.speech_encoder import SpeechEncoder, Windows
from salmonn.trainer import Split, Trainer, TrainingResult

WIDTH = 16
LLM_WIDTH = 32
NO_FILES = ""


@dataclass(frozen=True, slots=True)
class DryrunReport:
    """What the rehearsal did.

    Attributes:
        result: loss and validation of the one step.
        samples: rows of the training annotation, 0 where made-up clips stood in.
        missing: (dotted key, message) of what training still needs.
    """

    result: TrainingResult
    samples: int
    missing: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """Return the report for the screen."""
        data = f"{self.samples} training samples" if self.samples else "made-up clips (no annotation yet)"
        loss = f"loss {self.result.train_loss:.4f}"
        lines = [f"dry run: one step of a tiny model on {data}, {loss}; nothing was saved"]
        if self.missing:
            lines += ["training still needs:", *(f"  {key}: {text}" for key, text in self.missing)]
        return lines


def run_dryrun(config: Config) -> DryrunReport:
    """Make one training step and one validation batch.

    Raises:
        PromptError, DatasetError, AudioError: what the configuration names is wrong.
        CheckpointError: `run.device` is not here.
    """
    device = choose_device(config.run.device)
    torch.manual_seed(config.run.seed)
    model = build_tiny_model(config).to(device)
    book = train_prompts(config)
    with _samples(config, book) as (train, valid, real):
        first = train[: config.run.batch_size_train]
        run = config.run.model_copy(
            update={
                "optims": config.run.optims.model_copy(update={"max_epoch": 1}),
                "batch_size_train": len(first),
                "accum_grad_iters": 1,
                "epoch_based": False,
                "iters_per_epoch": 1,
            }
        )
        splits = [
            Split(samples, book, LiveEncoded(model, samples, workers=run.num_workers))
            for samples in (first, valid[: run.batch_size_eval])
        ]
        result = Trainer(
            model,
            train=splits[0],
            valid=splits[1],
            run=run,
            multi_prompt=config.model.multi_prompt,
            device=device,
            folder=None,
            config=config.public(),
        ).run()
    return DryrunReport(result=result, samples=real, missing=tuple(find_problems(config.public(), purpose="train")))


def build_tiny_model(config: Config) -> SALMONN:
    """Build a small random SALMONN with the configured windows, queries and end symbol."""
    parts = config.model
    tokenizer = _byte_tokenizer()
    windows = Windows.from_seconds(length=parts.second_per_window, stride=parts.second_stride)
    sizes = qformer_config(NO_FILES, encoder_width=2 * WIDTH)
    sizes.update({"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 2 * WIDTH})
    encoder = SpeechEncoder(
        front_end=FrontEnd(WhisperFeatureExtractor(), patch_frames=16),  # type: ignore[no-untyped-call]
        whisper=_tiny_whisper(),
        beats=_tiny_beats(),
        qformer_config=sizes,
        num_queries=parts.num_speech_query_token,
        windows=windows if parts.window_level_Qformer else None,
        output_width=LLM_WIDTH,
    )
    llm = _tiny_llm(len(tokenizer), tokenizer)
    for frozen in (*encoder.frozen_modules(), llm):
        frozen.requires_grad_(False)
    return SALMONN(
        speech_encoder=encoder,
        llm=add_lora(llm, rank=2, alpha=4, dropout=parts.lora_dropout, target_modules=["q_proj", "v_proj"]),
        tokenizer=tokenizer,
        end_sym=parts.end_sym,
        max_txt_len=parts.max_txt_len,
    )


def _tiny_whisper() -> WhisperEncoder:
    return WhisperEncoder(
        WhisperConfig(
            d_model=WIDTH,
            encoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=2 * WIDTH,
            num_mel_bins=80,
            max_source_positions=1500,
        )
    )


def _tiny_beats() -> BEATs:
    return BEATs(
        BEATsConfig(
            input_patch_size=16,
            embed_dim=WIDTH,
            encoder_layers=1,
            encoder_embed_dim=WIDTH,
            encoder_ffn_embed_dim=2 * WIDTH,
            encoder_attention_heads=2,
            deep_norm=True,
            conv_pos=16,
            conv_pos_groups=4,
            relative_position_embedding=True,
            gru_rel_pos=True,
        )
    )


def _tiny_llm(vocabulary: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=LLM_WIDTH,
            intermediate_size=2 * LLM_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every byte, and the two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )


@contextmanager
def _samples(config: Config, book: PromptBook) -> Iterator[tuple[list[Sample], list[Sample], int]]:
    """Give training and validation samples, made-up ones if need be, and the number of real rows."""
    datasets = config.datasets
    if Path(datasets.train_ann_path).is_file():
        train = read_annotation(Path(datasets.train_ann_path), prefix=datasets.prefix, tasks=book.tasks())
        has_valid = Path(datasets.valid_ann_path).is_file()
        valid = (
            read_annotation(Path(datasets.valid_ann_path), prefix=datasets.prefix, tasks=book.tasks())
            if has_valid
            else train
        )
        yield train, valid, len(train)
        return
    task, needs_question = next(iter(book.tasks().items()))
    with tempfile.TemporaryDirectory() as folder:
        made_up = []
        for number in range(2):
            path = Path(folder) / f"{number}.wav"
            noise = np.random.default_rng(number).standard_normal(2 * SAMPLING_RATE)
            soundfile.write(path, (0.1 * noise).astype(np.float32), SAMPLING_RATE)
            made_up.append(Sample(path, "noise", task, "What is it?" if needs_question else ""))
        yield made_up, made_up, 0
