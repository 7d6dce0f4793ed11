"""One thing that was looked at, and how findings are laid out as lines."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from evaluator.errors import AudioLMError

State = Literal["ok", "note", "WRONG"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: "ok"; "note" for what a run can do without; "WRONG" for what ends it.
        subject: what was looked at.
        text: what was found, and what to do where it is not ok.
        details: further lines: problems of a file, each with its place.
        exit_code: what a run would end with for it; 0 unless the state is "WRONG".
    """

    state: State
    subject: str
    text: str
    details: tuple[str, ...] = ()
    exit_code: int = 0


def wrong(subject: str, error: AudioLMError) -> Finding:
    """What an error of the checks before a run says, with all of its problems."""
    return Finding("WRONG", subject, error.message, tuple(map(str, error.problems)), error.exit_code)


def lines(findings: Iterable[Finding]) -> list[str]:
    """A line for each finding in columns, its details below it."""
    found = list(findings)
    width = max((len(finding.subject) for finding in found), default=0)
    shown = []
    for finding in found:
        shown.append(f"{finding.state:5}  {finding.subject:{width}}  {finding.text}")
        shown += [f"         {detail}" for detail in finding.details]
    return shown
