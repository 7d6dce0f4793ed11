"""The decoding stage alone, from prompts' embeddings to token ids: the arms that `bench_decoding.py` compares."""

from collections.abc import Sequence
from dataclasses import dataclass

from arms import Arm
from drawn_clips import MAX_NEW_TOKENS, Lengths
from forced_lengths import forced_lengths
from original_loop import BATCH_SIZE, search_in_batches, settings
from torch import Tensor
from transformers import PreTrainedModel

from salmonn.decoding.decoder import Decoder
from salmonn.decoding.decoder_settings import DecoderSettings


@dataclass(frozen=True, slots=True)
class Stage:
    """What all arms share.

    Attributes:
        llm: the language model, in evaluation mode.
        prompts: [S, H] of each clip.
        lengths: of the clips and of their answers.
        end: id that ends an answer.
        beams: of the search.
    """

    llm: PreTrainedModel
    prompts: Sequence[Tensor]
    lengths: Lengths
    end: int
    beams: int

    def by_transformers(self, order: Sequence[int], size: int) -> dict[int, list[int]]:
        """Clip -> ids, in batches of the given order."""
        config = settings(self.end, max_new_tokens=MAX_NEW_TOKENS)
        return search_in_batches(self.llm, self.prompts, self.lengths, config, order, size)

    def decoder(self, slots: int | None) -> Decoder:
        """Build the package's decoder."""
        rule = forced_lengths(self.lengths.tokens, self.end, self.llm.device)
        decoding = DecoderSettings(eos_ids=(self.end,), max_new_tokens=MAX_NEW_TOKENS, num_beams=self.beams)
        return Decoder(self.llm, decoding, slots=slots, score_rule=rule)


def build_stage_arms(stage: Stage, *, batch: int, slots: int | None, original_clips: int | None) -> dict[str, Arm]:
    """Name the arms.

    Args:
        stage: what they share.
        batch: size of the fair arm's batches.
        slots: clips that the decoder has at work; None for what it chooses.
        original_clips: how many clips, from the first, the original's loop answers; None for all.
    """
    everything = range(len(stage.prompts))
    decoder = stage.decoder(slots)

    def by_decoder(clips: Sequence[int]) -> dict[int, list[int]]:
        return dict(decoder.decode((clip, stage.prompts[clip]) for clip in stage.lengths.longest_first(clips)))

    return {
        "original": Arm(everything[:original_clips], lambda clips: stage.by_transformers(clips, BATCH_SIZE)),
        f"fair (batches of {batch})": Arm(
            everything, lambda clips: stage.by_transformers(stage.lengths.longest_first(clips), batch)
        ),
        "decoder": Arm(everything, by_decoder),
    }
