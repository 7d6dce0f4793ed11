"""The words of systems that are compared, as their score's protocol makes them, laid below the reference's.

Words are made anew from the texts. Where that does not give the edits that the scores were made of (another version of
the normaliser scored them, or the protocol merges words), there is no alignment, and the reason is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evaluator.comparison.system import System
from evaluator.diagnosis.alignment import Alignment, align
from evaluator.diagnosis.units import word_splits
from evaluator.extras import check_installed
from evaluator.scoring.result import KINDS

_NAME = "protocol:"


@dataclass(frozen=True, slots=True)
class Words:
    """Alignments of every system.

    Attributes:
        rows: system -> one a clip, of no words where all systems are right; empty where there are none.
        counted: whether they are what the word error rates count.
        reason: why there are none.
    """

    rows: Mapping[str, tuple[Alignment, ...]] = field(default_factory=dict)
    counted: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A clip whose reference may be wrong.

    Attributes:
        row: of the clip.
        systems: those that say the same, which is not the reference.
    """

    row: int
    systems: tuple[str, ...]


def align_systems(systems: Sequence[System]) -> Words:
    """Align the answers of speech recognition.

    Where characters are counted words are shown as the protocol's normaliser leaves them.
    """
    rates = [metric for name, metric in systems[0].metrics.items() if KINDS[name].unit]
    if not rates:
        return Words()
    check_installed("asr")
    fields = rates[0].protocol.split("|")
    name = next((field.removeprefix(_NAME) for field in fields if field.startswith(_NAME)), "challenge")
    reference_words, answer_words = word_splits(name)
    metric = next(name for name in systems[0].metrics if KINDS[name].unit)
    # Normalising is what costs, and a clip that all have right shows nothing.
    wrong = [any(edits) for edits in zip(*(system.metrics[metric].above for system in systems), strict=True)]
    references = [
        reference_words(row[0]) if differs else () for row, differs in zip(systems[0].references, wrong, strict=True)
    ]
    rows: dict[str, tuple[Alignment, ...]] = {}
    counted = all("wer" in system.metrics for system in systems)
    for system in systems:
        said = [answer_words(text) if differs else () for text, differs in zip(system.texts, wrong, strict=True)]
        rows[system.name] = tuple(align(*pair) for pair in zip(references, said, strict=True))
        edits = [float(each.errors.edits) for each in rows[system.name]]
        if counted and edits != list(system.metrics["wer"].above):
            return Words(reason=f"the words of {system.name} are not those that its score was made of")
    return Words(rows, counted)


def suspects(words: Words) -> list[Suspect]:
    """Clips where two systems or more say the same words, and not the reference's; most systems first.

    Systems that are alike, as two settings of one model, agree because they err alike.
    """
    found: list[Suspect] = []
    for row in range(min((len(rows) for rows in words.rows.values()), default=0)):
        saying: dict[tuple[object, ...], list[str]] = {}
        for name, rows in words.rows.items():
            if rows[row].errors.edits:
                saying.setdefault((rows[row].said, rows[row].inserted), []).append(name)
        names = max(saying.values(), key=len, default=[])
        if len(names) > 1:
            found.append(Suspect(row, tuple(names)))
    return sorted(found, key=lambda each: (-len(each.systems), each.row))
