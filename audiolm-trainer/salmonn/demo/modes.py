"""The three ways of choosing an answer that the web page offers, and which settings count in each."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from salmonn.decoding.transformers_decoding import GenerationSettings

Mode = Literal["beam search", "greedy", "sampling"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person set.

    Attributes:
        mode: how the next word is chosen.
        num_beams: counts in a beam search only.
        temperature, top_p: count when sampling only.
        max_new_tokens: tokens of the longest answer; always counts.
    """

    mode: Mode
    num_beams: int
    temperature: float
    top_p: float
    max_new_tokens: int

    @classmethod
    def from_settings(cls, settings: "GenerationSettings") -> "Choices":
        """Show a configuration's settings; a temperature that counts nowhere yet is its default."""
        greedy: Mode = "beam search" if settings.num_beams > 1 else "greedy"
        return cls(
            mode="sampling" if settings.do_sample else greedy,
            num_beams=max(settings.num_beams, 2),
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
        )

    def apply(self, settings: "GenerationSettings") -> "GenerationSettings":
        """Lay the choices over a configuration's settings; what is not chosen here stays."""
        changed = replace(
            settings,
            num_beams=self.num_beams if self.mode == "beam search" else 1,
            do_sample=self.mode == "sampling",
            max_new_tokens=self.max_new_tokens,
        )
        if self.mode != "sampling":
            return changed
        # A slider gives a whole number as an integer, which transformers does not take for a temperature.
        return replace(changed, temperature=float(self.temperature), top_p=float(self.top_p))


def effect_of(mode: Mode) -> str:
    """Say what a mode means for the person who waits."""
    return {
        "beam search": "Several answers are followed and the likeliest one is given, all at once at the end.",
        "greedy": "Always the likeliest next word. The answer is shown as it grows.",
        "sampling": "The next word is drawn, so answers differ. The answer is shown as it grows.",
    }[mode]
