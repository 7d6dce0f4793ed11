"""What a report says, gathered from finished runs before a page is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluator.errors import AudioLMError
from evaluator.report.alignments import Aligner, aligner_of
from evaluator.report.annotation_facts import AnnotationFacts, annotation_facts
from evaluator.report.clusters import Cluster, clusters, findings_of, suspects_of
from evaluator.report.differences import Difference, difference
from evaluator.report.places import Places, find_places, frontier_picture
from evaluator.report.runs import Run, find_earlier, read_efficiency, read_run
from evaluator.scoring.result import KINDS


@dataclass(frozen=True, slots=True)
class Contents:
    """What is told of a run.

    Attributes:
        run: what the report is of.
        differences: it against other runs.
        others_given: whether they were named, and not found beside the run.
        not_compared: why an earlier run beside it is not compared, or None.
        findings: kind of wrong answer -> rows.
        clusters: those first that cost the score most.
        suspects: rows whose reference may be wrong, by one answer.
        facts: what the annotation says.
        aligner: of answers and references.
        efficiency: an efficiency.json of the same model, or None.
        places: on a board, or None.
        frontier: quality against cost as SVG, why there is no picture, or "" where there is one run.
        has_frontier: whether it is a picture.
    """

    run: Run
    differences: tuple[Difference, ...] = ()
    others_given: bool = False
    not_compared: str | None = None
    findings: Mapping[str, Sequence[int]] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()
    suspects: tuple[int, ...] = ()
    facts: AnnotationFacts = field(default_factory=AnnotationFacts)
    aligner: Aligner = field(default_factory=lambda: Aligner("", None, None))
    efficiency: Mapping[str, Any] | None = None
    places: Places | None = None
    frontier: str = ""
    has_frontier: bool = False

    def worst_first(self) -> list[int]:
        """All rows: those without an answer, then by how much they cost the score, then in the set's order."""
        kind = self.run.kind
        rows = range(len(self.run.predictions))
        if kind is None:
            return list(rows)
        above, _ = self.run.sums
        sign = -1 if not kind.higher_is_better else 1
        scores = self.run.row_scores

        def order(row: int) -> tuple[bool, float, float, int]:
            failed = self.run.predictions[row].finish_reason == "error"
            # Of an error rate what counts is errors; of two rows with as many the shorter one is the worse.
            return not failed, sign * above[row], sign * (scores[row] or 0.0), row

        return sorted(rows, key=order)

    def flags(self) -> dict[int, list[str]]:
        """Row -> the clusters and findings that it is of, and "suspect"."""
        found: dict[int, list[str]] = {}
        told = dict(self.findings)
        told |= {each.key: each.rows for each in self.clusters if not each.key.startswith("speaker ")}
        told["suspect"] = self.all_suspects()
        for key, rows in told.items():
            for row in rows:
                found.setdefault(row, []).append(key)
        return found

    def all_suspects(self) -> list[int]:
        """Suspect rows: by one answer, and by other runs that say the same.

        Only by runs that were given: the run before is mostly of the same model, and errs alike.
        """
        by_runs = [each.row for told in self.differences for each in told.suspects if self.others_given]
        return sorted({*self.suspects, *by_runs})


def gather(
    sources: Sequence[str], *, board: Sequence[str] = (), preset: str = "nota-2025", find: bool = True
) -> Contents:
    """Read runs and find out what a report says of them.

    Args:
        sources: PATH or NAME=PATH; the report is of the first, the others are what it is compared with.
        board: sources of a board, as `audiolm-evaluator board` takes them.
        preset: rules of that board.
        find: where one run is given, look for an earlier one beside it.

    Raises:
        AudioLMError: a run cannot be read, or one that was given does not compare.
    """
    run, *others = [read_run(source) for source in sources]
    given = bool(others)
    if not given and find and (earlier := find_earlier(run)) is not None:
        others = [earlier]
    differences: list[Difference] = []
    not_compared = None
    for other in others:
        try:
            differences.append(difference(run, other))
        except AudioLMError as error:
            if given:
                raise
            not_compared = _only_scores(run, other, error)
    found = findings_of(run)
    facts = annotation_facts(run)
    named = {run.name: run} | {told.other.name: other for told, other in zip(differences, others, strict=False)}
    frontier, standings = frontier_picture(named) if given else ("", None)
    wrong = sorted({row for rows in found.values() for row in rows})
    return Contents(
        run=run,
        differences=tuple(differences),
        others_given=given,
        not_compared=not_compared,
        findings=found,
        clusters=tuple(clusters(run, found, facts)),
        suspects=tuple(suspects_of(run, wrong)),
        facts=facts,
        aligner=aligner_of(run),
        efficiency=read_efficiency(run),
        places=find_places(board, preset, named) if board else None,
        frontier=frontier,
        has_frontier=standings is not None,
    )


def _only_scores(run: Run, other: Run, error: AudioLMError) -> str:
    """What an earlier run scored, and why its clips are not compared."""
    before, now = other.scores_by_name(), run.scores_by_name()
    told = ", ".join(
        f"{KINDS[name].title} {told_value(name, before[name])} \u2192 {told_value(name, value)}"
        for name, value in now.items()
        if name in before and name in KINDS
    )
    why = " ".join(str(error).split())
    return f"{other.folder.absolute().name}: {told or 'no score'}. Clips are not compared: {why}"


def told_value(metric: str, value: float | None, *, signed: bool = False) -> str:
    """A metric's value for a person: "2.64 %", "4.0407", "+0.38"; "-" where there is none."""
    if value is None:
        return "-"
    sign = "+" if signed else ""
    rate = metric in KINDS and KINDS[metric].unit
    told = f"{100 * value:{sign}.2f} %" if rate else f"{value:{sign}.4f}"
    # A minus sign, which a hyphen is not.
    return told.replace("-", "\u2212") if signed else told
