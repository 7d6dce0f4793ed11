"""How answers are decoded: the subset of transformers' generation settings that the decoder itself carries out."""

from dataclasses import dataclass
from typing import Any, Literal

from transformers import GenerationConfig, PreTrainedModel

from salmonn.errors import ConfigError

# What the decoder does not do -> the values that mean "off".
_OFF: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "bad_words_ids": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "sequence_bias": (),
    "exponential_decay_length_penalty": (),
    "renormalize_logits": (False,),
    "guidance_scale": (1, 1.0),
    "num_return_sequences": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "prompt_lookup_num_tokens": (),
    "watermarking_config": (),
    "stop_strings": ([],),
    "max_time": (),
}
# The same, of what counts only when sampling.
_OFF_SAMPLING: dict[str, tuple[Any, ...]] = {
    "min_p": (),
    "top_h": (),
    "typical_p": (1.0,),
    "epsilon_cutoff": (0.0,),
    "eta_cutoff": (0.0,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings:
    """Settings with transformers' names and meanings.

    Attributes:
        eos_ids: ids that end an answer; at least one.
        min_length: as with embeddings in transformers, the prompt counts: only what exceeds its length has an effect.
        min_new_tokens: tokens an answer has at least before it may end; overrides `min_length`. None is off.
        early_stopping: when a beam search ends: False, True or "never".
        top_k, top_p, temperature: count only with `do_sample`; a `top_k` of 0 is off.
        seed: of sampling. A clip's text depends on it and on the clip's index, not on its neighbours.
    """

    eos_ids: tuple[int, ...]
    max_new_tokens: int = 200
    num_beams: int = 4
    do_sample: bool = False
    min_length: int = 0
    min_new_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not self.eos_ids:
            problems.append(("eos_ids", "name at least one end-of-sequence id"))
        if self.early_stopping not in (False, True, "never"):
            problems.append(("early_stopping", f'must be false, true or "never", not {self.early_stopping!r}'))
        for name in ("max_new_tokens", "num_beams", "temperature", "repetition_penalty"):
            if not (getattr(self, name) or 0) > 0:
                problems.append((name, f"must be above 0, not {getattr(self, name)}"))
        if problems:
            raise ConfigError("the decoder's settings are wrong:", problems)

    @classmethod
    def from_transformers(cls, config: GenerationConfig, llm: PreTrainedModel, *, seed: int = 0) -> "DecoderSettings":
        """Take over transformers' settings as its `generate` would understand them.

        Args:
            config: what is asked for; what it leaves open is the language model's own, then transformers' default.
            llm: the language model that will run.
            seed: of sampling.

        Raises:
            ConfigError: a setting is on that the decoder does not carry out.
        """
        merged = merged_settings(llm.generation_config, config)
        refuse_unsupported(merged)
        eos = merged.get("eos_token_id", ())
        return cls(
            eos_ids=(eos,) if isinstance(eos, int) else tuple(eos),
            max_new_tokens=merged.get("max_new_tokens", 0),
            num_beams=merged["num_beams"],
            do_sample=merged["do_sample"],
            min_length=merged["min_length"],
            min_new_tokens=merged.get("min_new_tokens"),
            temperature=float(merged["temperature"]),
            top_k=merged["top_k"],
            top_p=float(merged["top_p"]),
            repetition_penalty=float(merged["repetition_penalty"]),
            length_penalty=float(merged["length_penalty"]),
            early_stopping=merged["early_stopping"],
            seed=seed,
        )

    def eos_from(self, prompt_length: int) -> int:
        """How many tokens an answer to a prompt has at least before it may end."""
        if self.min_new_tokens is not None:
            return self.min_new_tokens
        return max(self.min_length - prompt_length, 0)


def merged_settings(own: GenerationConfig, asked: GenerationConfig) -> dict[str, Any]:
    """Lay what is asked for over a language model's own settings, and these over transformers' defaults."""
    merged: dict[str, Any] = dict(GenerationConfig._get_default_generation_params())
    for source in (own, asked):
        merged |= {key: value for key, value in source.to_dict().items() if value is not None}
    return merged


def refuse_unsupported(merged: dict[str, Any]) -> None:
    """Check that nothing is on that the decoder would leave out.

    Raises:
        ConfigError: with every such setting.
    """
    known = _OFF | (_OFF_SAMPLING if merged["do_sample"] else {})
    on = [name for name, off in known.items() if merged.get(name) is not None and merged[name] not in off]
    if on:
        raise ConfigError(
            "the decoder does not carry out some of the language model's generation settings; "
            "set generate.engine: transformers, or remove them from its generation_config.json:",
            [(name, f"is {merged[name]!r}") for name in on],
        )
