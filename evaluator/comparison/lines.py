"""A comparison for a terminal: tables, a sentence on each pair, parts, settings, clips with their words."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from evaluator.board.text_columns import aligned
from evaluator.comparison.alignment_lines import alignment_lines
from evaluator.comparison.compare import Bounds, Comparison, Pair, Table, changed_rows, setting_differences
from evaluator.scoring.result import KINDS, MetricKind
from evaluator.statistics.interval import LEVEL
from evaluator.statistics.units import CLIP, Units
from evaluator.wording import printable

_COLUMNS = 100
LARGEST_P = 0.05
"""A difference with a larger p is not called one."""


def lines(comparison: Comparison, *, clips: int) -> list[str]:
    """Tell a comparison.

    Args:
        comparison: what was found.
        clips: the most clips that are shown of each kind.
    """
    first = comparison.systems[0]
    source = "" if comparison.units.source == "rows" else f" ({comparison.units.source})"
    drawn = Units().counted(len(first.ids))
    if comparison.units.kind != CLIP:
        drawn += f" of {comparison.units.counted(comparison.unit_count)}{source}"
    found = [f"{drawn}, {comparison.resamples} resamples, seed {comparison.seed}"]
    found += [line for note in comparison.notes for line in _wrapped(f"Note: {note}.")]
    for table in comparison.tables:
        found += ["", *_table_lines(table, first.metrics[table.metric].protocol)]
    for name, parts in comparison.slices.items():
        found += ["", *_slice_lines(name, parts)]
    found += _setting_lines(comparison)
    found += _changed_lines(comparison, clips)
    return [*found, *_suspect_lines(comparison, clips)]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table_lines(table: Table, protocol: str) -> list[str]:
    kind = KINDS[table.metric]
    better = "higher" if kind.higher_is_better else "lower"
    rows = [[f"  {first}", *others] for first, *others in system_rows(table)]
    found = [*_wrapped(f"{kind.title} ({better} is better): {protocol}"), *aligned(rows, left=(0, 2)), ""]
    found += aligned([[f"  {first}", *others] for first, *others in pair_rows(table)], left=(0, 2))
    return found + [line for told in verdicts(table) for line in _wrapped(told, "  ")]


def system_rows(table: Table) -> list[list[str]]:
    """What each system scores, as rows of cells below a head."""
    kind = KINDS[table.metric]
    rows = [["system", kind.title, f"{100 * LEVEL:g} %"]]
    for name, value in table.values.items():
        rows.append([printable(name), _value(kind, value), _bounds(kind, table.bounds[name])])
    return rows


def pair_rows(table: Table) -> list[list[str]]:
    """How each two systems differ, as rows of cells below a head."""
    several = len(table.pairs) > 1
    tested = all(pair.mapsswe is not None for pair in table.pairs)
    head = ["second - first", "difference", f"{100 * LEVEL:g} %", "better", "p"]
    head += [*(["Holm"] if several else []), *(["MAPSSWE p"] if tested else [])]
    head += [*(["Holm"] if several and tested else []), "wins", "losses", "ties"]
    return [head, *(_pair_cells(KINDS[table.metric], pair, several=several) for pair in table.pairs)]


def verdicts(table: Table) -> list[str]:
    """A sentence on each two systems."""
    return [_verdict(pair, several=len(table.pairs) > 1) for pair in table.pairs]


def _pair_cells(kind: MetricKind, pair: Pair, *, several: bool) -> list[str]:
    cells = [
        f"{printable(pair.second)} - {printable(pair.first)}",
        _signed(kind, pair.difference),
        _bounds(kind, pair.bounds),
        f"{100 * pair.better:.1f} %",
        _p(pair.p),
    ]
    cells += [_p(pair.p_holm)] if several else []
    if pair.mapsswe is not None:
        cells += [_p(pair.mapsswe.p), *([_p(pair.mapsswe_holm or 0.0)] if several else [])]
    return [*cells, str(pair.wins), str(pair.losses), str(pair.ties)]


def _verdict(pair: Pair, *, several: bool) -> str:
    p, how = (pair.p_holm, "p by Holm") if several else (pair.p, "p")
    if p > LARGEST_P:
        return f"{pair.first} and {pair.second}: no difference is shown ({how} {_p(p)})."
    winner, other = (pair.second, pair.first) if pair.better >= 0.5 else (pair.first, pair.second)
    return f"{winner} is better than {other} ({how} {_p(p)})."


def _value(kind: MetricKind, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if kind.unit else f"{value:.4f}"


def _signed(kind: MetricKind, value: float) -> str:
    return f"{100 * value:+.2f} %" if kind.unit else f"{value:+.4f}"


def _bounds(kind: MetricKind, bounds: Bounds) -> str:
    if bounds is None:
        return "-"
    factor, digits = (100, 2) if kind.unit else (1, 4)
    return f"[{factor * bounds[0]:.{digits}f}, {factor * bounds[1]:.{digits}f}]"


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _slice_lines(name: str, parts: Mapping[str, tuple[Table, ...]]) -> list[str]:
    tables = [(part, table) for part, told in parts.items() for table in told]
    found = [f"By {printable(name)} (differences are not tested here: the more parts, the more would look like one)"]
    for metric in dict.fromkeys(table.metric for _, table in tables):
        kind = KINDS[metric]
        own = [(part, table) for part, table in tables if table.metric == metric]
        pairs = own[0][1].pairs
        systems = list(own[0][1].values)
        head = [f"  {kind.title}", "clips", *map(printable, systems)]
        head += [cell for pair in pairs for cell in (f"{printable(pair.second)} - {printable(pair.first)}", "95 %")]
        rows = [head]
        for part, table in own:
            cells = [f"  {printable(part)}", str(table.clips)]
            cells += [_value(kind, table.values[system]) for system in systems]
            for pair in table.pairs:
                cells += [_signed(kind, pair.difference), _bounds(kind, pair.bounds)]
            rows.append(cells)
        left = [0, *(len(systems) + 3 + 2 * place for place in range(len(pairs)))]
        found += aligned(rows, left=left)
    return found


def _setting_lines(comparison: Comparison) -> list[str]:
    told = [system.name for system in comparison.systems if system.settings]
    if len(told) < 2:
        return ["", "Settings are not compared: they need two run folders."]
    differing = setting_differences(comparison.systems)
    if not differing:
        return ["", f"Configuration, versions and hashes of {', '.join(map(printable, told))} are the same."]
    found = ["", "What differs between the runs:"]
    for name, values in differing.items():
        told_values = "; ".join(f"{system} {_short(value)}" for system, value in values.items())
        found += _wrapped(f"{name}: {told_values}", "  ")
    return found


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}..."


def _changed_lines(comparison: Comparison, most: int) -> list[str]:
    """The clips that changed most: of two systems, or of the first one and each other."""
    if not most or not comparison.tables:
        return []
    table = comparison.tables[0]
    kind = KINDS[table.metric]
    found: list[str] = []
    for pair in (each for each in table.pairs if each.first == comparison.systems[0].name):
        rows = changed_rows(comparison, table.metric, pair.first, pair.second, most)
        if not rows:
            found += ["", f"No clip changed from {printable(pair.first)} to {printable(pair.second)}."]
            continue
        found += [
            "",
            f"Changed most by {kind.title} from {printable(pair.first)} to {printable(pair.second)} "
            f"({pair.wins + pair.losses} clips changed)",
        ]
        for row, change in rows:
            found += _clip_lines(comparison, row, (pair.first, pair.second), _change(kind, change))
    return found


def _change(kind: MetricKind, change: float) -> str:
    """-2.0 -> "2 word errors fewer"; of a score +0.31 -> "CIDEr-D +0.3100"."""
    if not kind.unit:
        return f"{kind.title} {change:+.4f}"
    number = abs(round(change))
    return f"{number} {kind.unit} error{'' if number == 1 else 's'} {'more' if change > 0 else 'fewer'}"


def _clip_lines(comparison: Comparison, row: int, names: Sequence[str], told: str) -> Iterator[str]:
    """A clip: its id, what is told of it, and the answers below the reference."""
    first = comparison.systems[0]
    yield f"  {printable(first.ids[row])}  {told}"
    if comparison.words.rows:
        yield from alignment_lines(
            "reference", {name: comparison.words.rows[name][row] for name in names}, indent="    "
        )
        return
    texts = {system.name: system.texts[row] for system in comparison.systems}
    told_texts = [("reference", first.references[row][0]), *((name, texts[name]) for name in names)]
    yield from aligned([[f"    {printable(name)}", printable(text)] for name, text in told_texts], left=(0, 1))


def _suspect_lines(comparison: Comparison, most: int) -> list[str]:
    if not most or not comparison.suspects:
        return []
    number = len(comparison.suspects)
    found = [
        "",
        *_wrapped(
            f"Suspect references: in {number} clips systems say the same words and not the reference's. Systems that "
            "are alike, as two settings of one model, also agree because they err alike."
        ),
    ]
    for suspect in comparison.suspects[:most]:
        told = f"{len(suspect.systems)} of {len(comparison.systems)} systems agree"
        found += _clip_lines(comparison, suspect.row, suspect.systems[:1], told)
    return found
