"""What a board ranks by: criteria with weights and the rule that makes one order of them, from a preset or a YAML file.

The format of the file is in docs/board.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from evaluator.config.yaml import Document, YamlError, read_document
from evaluator.errors import ConfigError, Problem
from evaluator.scoring.result import KINDS
from evaluator.wording import counted, did_you_mean, shown

RuleName = Literal["ranks", "ratio", "limit"]
RULES: tuple[RuleName, ...] = ("ranks", "ratio", "limit")
CAPTION_METRICS = ("spider", "cider_d")

# Criterion -> its column in a CSV, where that has another name.
_COLUMNS: Mapping[str, str] = MappingProxyType({"memory": "memory_gb", "latency": "latency_s"})
_TITLES: Mapping[str, str] = MappingProxyType({"memory": "memory (GiB)", "latency": "latency (s)", "qa": "QA"})
_KEYS = ("rule", "baseline", "criteria")
_CRITERION_KEYS = ("weight", "better", "column", "optional", "limit_percent", "cost")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that systems are ranked by.

    Attributes:
        name: "wer", "memory" ...; the key in YAML, JSON and --what-if.
        higher_is_better: False for error rates, memory and time.
        weight: of its rank in the weighted sum (rule `ranks`), or of its ratio (rule `ratio`).
        column: its column in a CSV; the metric's name in scores.json.
        optional: left out where no system has a value.
        limit_percent: rule `limit`: at most so many percent worse than the baseline; None: no limit, the smaller wins.
        cost: memory, time: on the plot's x axis; other criteria are quality.
    """

    name: str
    higher_is_better: bool
    weight: float = 1.0
    column: str = ""
    optional: bool = False
    limit_percent: float | None = None
    cost: bool = False

    @property
    def title(self) -> str:
        """What a person reads: "WER", "memory (GiB)"."""
        return _TITLES.get(self.name) or (KINDS[self.name].title if self.name in KINDS else self.name)


@dataclass(frozen=True, slots=True)
class Rules:
    """How a board is ranked.

    Attributes:
        name: the preset, or the file.
        rule: "ranks": weighted sum of ranks; "ratio": to the baseline; "limit": within it, then the smallest.
        criteria: in the order of columns.
        baseline: the system that `ratio` and `limit` compare with; "" for none.
    """

    name: str
    rule: RuleName
    criteria: tuple[Criterion, ...]
    baseline: str = ""

    def with_captions(self, metric: str) -> "Rules":
        """The same rules with captions ranked by "spider" or "cider_d"."""
        return replace(
            self,
            criteria=tuple(
                replace(each, name=metric, column=metric) if each.name in CAPTION_METRICS else each
                for each in self.criteria
            ),
        )

    def with_limit(self, percent: float) -> "Rules":
        """The same rules with another limit.

        Raises:
            ConfigError: the rules have no limit.
        """
        if self.rule != "limit":
            raise ConfigError(f"--limit-percent belongs to the rule limit; {self.name} ranks by {self.rule}.")
        return replace(
            self,
            criteria=tuple(
                each if each.limit_percent is None else replace(each, limit_percent=percent) for each in self.criteria
            ),
        )


def _known(name: str, **more: Any) -> Criterion:
    """A criterion whose direction, column and side of the plot are known by its name."""
    higher = KINDS[name].higher_is_better if name in KINDS else name == "qa"
    return Criterion(name, higher, column=_COLUMNS.get(name, name), cost=name in _COLUMNS, **more)


def _usual(*, limit_percent: float | None = None) -> tuple[Criterion, ...]:
    return (
        _known("wer", limit_percent=limit_percent),
        _known("spider", limit_percent=limit_percent),
        _known("memory", weight=2.0),
        _known("latency", weight=2.0),
        _known("qa", optional=True, limit_percent=limit_percent),
    )


PRESETS: Mapping[str, Rules] = MappingProxyType(
    {
        "nota-2025": Rules("nota-2025", "ranks", _usual()),
        "ratio": Rules("ratio", "ratio", _usual()),
        "limit": Rules("limit", "limit", _usual(limit_percent=0.5)),
    }
)


def preset(name: str) -> Rules:
    """The rules of a preset.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"--preset {name}: there is no such preset; {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def read_rules(path: Path) -> Rules:
    """Read a file of criteria.

    Raises:
        ConfigError: with every problem, each with file, line and key.
    """
    try:
        document = read_document(path)
    except YamlError as error:
        raise ConfigError(f"The criteria cannot be read: {error}.") from error
    problems = [Problem(*problem) for problem in document.problems]
    problems += _unknown(document, document.tree, _KEYS, "")
    given = document.tree.get("rule") or "ranks"
    rule = next((each for each in RULES if each == given), None)
    if rule is None:
        problems.append(
            Problem(document.label("rule"), f"{shown(given)} is no rule; {did_you_mean(str(given), RULES)}")
        )
    sections = document.tree.get("criteria")
    criteria: list[Criterion] = []
    if not isinstance(sections, dict) or not sections:
        problems.append(Problem(document.label("criteria"), "expected criteria, such as wer: {weight: 1}"))
    else:
        found = [_criterion(document, str(name), section, problems) for name, section in sections.items()]
        criteria = [each for each in found if each is not None]
    if rule != "limit" and criteria and not any(each.weight for each in criteria):
        problems.append(Problem(document.label("criteria"), "every weight is 0: nothing would count"))
    if rule == "limit" and criteria and all(each.limit_percent is None for each in criteria):
        problems.append(Problem(document.label("criteria"), "rule limit needs a criterion with limit_percent"))
    if rule == "limit" and criteria and all(each.limit_percent is not None for each in criteria):
        problems.append(
            Problem(document.label("criteria"), "rule limit needs a criterion without limit_percent: the smallest wins")
        )
    if problems or rule is None:
        raise ConfigError(f"The criteria {path} have {counted(problems)}:", problems)
    return Rules(path.name, rule, tuple(criteria), str(document.tree.get("baseline") or ""))


def _criterion(document: Document, name: str, section: object, problems: list[Problem]) -> Criterion | None:
    """One entry of `criteria`; what is wrong with it joins the problems."""
    key = f"criteria.{name}"
    values = {} if section is None else {"weight": section} if isinstance(section, (int, float)) else section
    if not isinstance(values, dict):
        problems.append(Problem(document.label(key), "expected a weight, or keys such as {weight: 2, better: lower}"))
        return None
    before = len(problems)
    problems += _unknown(document, values, _CRITERION_KEYS, f"{key}.")
    familiar = name in KINDS or name in _COLUMNS or name == "qa"
    better = values.get("better")
    if better not in ("lower", "higher") and not (better is None and familiar):
        problems.append(Problem(document.label(f"{key}.better"), "expected better: lower or better: higher"))
    for flag in ("optional", "cost"):
        if values.get(flag) not in (None, True, False):
            problems.append(Problem(document.label(f"{key}.{flag}"), f"expected true or false, not {values[flag]!r}"))
    for number in ("weight", "limit_percent"):
        if not _is_amount(values.get(number)):
            where = document.label(f"{key}.{number}" if isinstance(section, dict) else key)
            problems.append(Problem(where, f"expected a number that is not negative, not {shown(values[number])}"))
    if len(problems) > before:
        return None
    usual = _known(name)
    cost = values.get("cost")
    return Criterion(
        name,
        usual.higher_is_better if better is None else better == "higher",
        weight=float(1 if values.get("weight") is None else values["weight"]),
        column=str(values.get("column") or usual.column),
        optional=bool(values.get("optional")),
        limit_percent=None if values.get("limit_percent") is None else float(values["limit_percent"]),
        cost=usual.cost if cost is None else cost,
    )


def _is_amount(value: object) -> bool:
    """Whether a value is absent, or a finite number that is not negative."""
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _unknown(document: Document, values: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> list[Problem]:
    return [
        Problem(document.label(f"{prefix}{key}"), f"unknown key; {did_you_mean(str(key), known)}")
        for key in values
        if key not in known
    ]
