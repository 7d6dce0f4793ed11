"""What one source says of one system: values by column, where each is from, and the clips behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clips:
    """The clips behind a value, in the order of the rows.

    The value of a set is sum(numerators) / sum(denominators): word edits over reference words for WER, the clips'
    scores over their number for captions.

    Attributes:
        ids: testset_id of each.
        references: what each answer is compared with, as text; empty where it is not known.
        numerators: one a clip.
        denominators: one a clip.
    """

    ids: tuple[str, ...]
    references: tuple[str, ...]
    numerators: tuple[float, ...]
    denominators: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of one system.

    Attributes:
        number: the value.
        origin: file, and row and column where it has them: for messages.
        how: how it was measured; "" where the source does not say. Values measured in two ways do not compare.
        order: of two values of one system the lower order holds; the same order twice is a contradiction.
        clips: what it was computed from; None where the source does not say.
    """

    number: float
    origin: str
    how: str = ""
    order: int = 0
    clips: Clips | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one source says of one system.

    Attributes:
        system: its name.
        source: the file or folder.
        values: column ("wer", "memory_gb") -> value.
        absent: column -> why there is no value, where the source says so.
        conditions: name -> what times hold for: processor, device.
    """

    system: str
    source: str
    values: Mapping[str, Value]
    absent: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
