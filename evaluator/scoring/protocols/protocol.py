"""What a protocol is: what is done to texts, what is counted, and how the score is signed. table.py has every one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from evaluator.scoring.protocols.signature import Signature, sign
from evaluator.tasks import TaskName

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """One error rate of a protocol.

    Attributes:
        metric: its name among the metrics: "wer", "cer", "swer".
        compare: function of comparison.py that counts its errors: raw references, raw hypotheses -> counts.
        words: the protocol in one line.
        fields: what its signature says besides protocol, references, rows and versions.
        packages: distributions whose versions decide it.
        one_to_one: whether a hypothesis's words are counted as they stand; False where some are merged.
    """

    metric: str
    compare: str
    words: str
    fields: Fields
    packages: tuple[str, ...]
    one_to_one: bool = True

    def described(self) -> str:
        """The protocol in one line, with the versions of what it is made of."""
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in self.packages)
        return f"{self.words} ({versions})"


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How a protocol scores captions.

    Attributes:
        usual: metrics that are computed unless others are named.
        alone: whether each caption is tokenised for itself, so that its tokens do not depend on its neighbours.
        lowered: whether candidates are lower-cased before anything else.
    """

    usual: tuple[str, ...]
    alone: bool
    lowered: bool


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol.

    Attributes:
        name: as settings and signatures have it.
        title: what it is for, in one line.
        steps: what is done, in order, for each task that it scores.
        rates: its error rates; empty if it scores no transcripts.
        captions: how it scores captions; None if it does not.
        dual: whether it reads KsponSpeech's dual transcripts.
        english: whether its normaliser is made for English and destroys letters of other scripts.
    """

    name: str
    title: str
    steps: Mapping[TaskName, tuple[str, ...]]
    rates: tuple[Rate, ...] = ()
    captions: CaptionRules | None = None
    dual: bool = False
    english: bool = False

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """What it scores."""
        return tuple(self.steps)

    def sign_rate(self, rate: Rate, *, rows: int, dual: str) -> Signature:
        """The signature of one of its error rates.

        Args:
            rate: which.
            rows: of the set.
            dual: side of dual transcripts that is read, "none" for plain text.
        """
        option: Fields = (("dual", dual),) if self.dual else ()
        fields = (("protocol", self.name), *rate.fields, *option, ("refs", "1"), ("rows", str(rows)))
        return sign(fields, rate.packages)

    def sign_captions(self, own: Fields, packages: Sequence[str], *, references: Sequence[Sequence[str]]) -> Signature:
        """The signature of a caption metric.

        Args:
            own: what the metric says besides.
            packages: distributions whose versions decide it.
            references: of the set, one tuple a row.
        """
        counts = [len(row) for row in references]
        fewest, most = min(counts, default=0), max(counts, default=0)
        common = (
            ("protocol", self.name),
            ("tok", "ptb" if self.captions is not None and self.captions.alone else "ptb-whole-set"),
            ("case", "lower"),
            ("punct", "no"),
            ("unit", "caption"),
            ("refs", str(most) if fewest == most else f"{fewest}-{most}"),
            ("rows", str(len(counts))),
        )
        return sign((*common, *own), packages)
