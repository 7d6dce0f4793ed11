"""The parts of a report below the first screen, as HTML: pictures, clusters, words, runs against cost, signatures."""

import base64
from collections.abc import Sequence
from typing import Any

from evaluator.diagnosis.diagnosis import KEY
from evaluator.report.contents import Contents, told_value
from evaluator.report.page.escaping import text
from evaluator.report.page.plots import Axis, histogram, scatter
from evaluator.report.page.screen import show_button
from evaluator.scoring.result import KINDS

_MOST_WORDS = 8


def pictures(contents: Contents) -> str:
    """How rows score, and their score against duration and length."""
    run, kind = contents.run, contents.run.kind
    if kind is None:
        return ""
    factor, unit, most = (100.0, " (%)", 100.0) if kind.unit else (1.0, "", float("inf"))
    title = f"{kind.title} of a clip{unit}"
    rows = [(row, score * factor) for row, score in enumerate(run.row_scores) if score is not None]
    scores = [score for _, score in rows]
    below = run.sums[1]
    lengths = [below[row] if kind.unit else len((run.system.references[row] or ("",))[0].split()) for row, _ in rows]
    seconds = [run.predictions[row].audio_seconds for row, _ in rows]
    up = Axis.over(title, scores, most=most)
    counted = f"{kind.unit or 'word'}s in the reference"
    drawn = [
        (f"{kind.title} of the clips", histogram("Histogram of the clips' scores", scores, title, most=most)),
        (f"{title}, by duration", _scatter("Score against duration", seconds, scores, "seconds", up)),
        (f"{title}, by length", _scatter("Score against length", lengths, scores, counted, up)),
    ]
    told = "".join(f'<figure class="tile"><figcaption>{name}</figcaption>{svg}</figure>' for name, svg in drawn)
    head = '<section aria-labelledby="pictures"><h2 id="pictures">Scores of the clips</h2>'
    return f'{head}<div class="pictures">{told}</div></section>'


def _scatter(title: str, across: Sequence[float], scores: Sequence[float], unit: str, up: Axis) -> str:
    return scatter(title, list(zip(across, scores, strict=True)), Axis.over(unit, across), up)


def errors(contents: Contents) -> str:
    """Clusters, and the words that are confused, left out and too many."""
    parts = [_clusters(contents), *_words(contents)]
    told = "".join(filter(None, parts))
    if not told:
        return ""
    head = '<section aria-labelledby="errors"><h2 id="errors">Where the score is lost</h2>'
    return f'{head}<div class="tiles">{told}</div></section>'


def _clusters(contents: Contents) -> str:
    metric = contents.run.metric
    if metric is None or not contents.clusters:
        return ""
    lines = []
    for each in contents.clusters:
        lines.append(
            f'<tr><th scope="row">{text(each.title)}</th><td>{len(each.rows)}</td>'
            f"<td>{text(told_value(metric, each.value))}</td><td>{text(told_value(metric, each.rest))}</td>"
            f"<td>{100 * each.share:.0f} %</td><td>{show_button(each.filter, each.title)}</td></tr>"
        )
    lost = "of the errors" if KINDS[metric].unit else "of what is lost"
    head = "".join(f'<th scope="col">{each}</th>' for each in ("clips", KINDS[metric].title, "others", lost))
    return (
        '<section class="tile wide"><h3>Kinds of clips</h3><div class="scroll" tabindex="0" role="group" '
        'aria-label="Kinds of clips"><table class="figures clusters"><thead><tr><th scope="col">kind</th>'
        f"{head}<td></td></tr></thead><tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _words(contents: Contents) -> list[str]:
    found = contents.run.scores["details"].get(KEY, {})
    told = []
    for key, title in (("confusions", "Confused"), ("deletions", "Left out"), ("insertions", "Too many")):
        entries = found.get(key, [])[:_MOST_WORDS]
        lines = "".join(f'<tr><th scope="row">{_pair(entry)}</th><td>{entry["count"]}</td></tr>' for entry in entries)
        if lines:
            told.append(
                f'<section class="tile"><h3>{title}</h3><table class="figures"><tbody>{lines}</tbody></table></section>'
            )
    return told


def _pair(entry: dict[str, Any]) -> str:
    """<on> \u2192 <off>, or the one word that there is."""
    told = [f"<bdi>{text(entry[name])}</bdi>" for name in ("reference", "answer") if name in entry]
    return " \u2192 ".join(told)


def several(contents: Contents) -> str:
    """The runs side by side: scores, places, quality against cost."""
    if not contents.others_given:
        return ""
    run = contents.run
    rows = [_row(contents, run.name, "this run", dict(run.scores_by_name()))]
    rows += [
        _row(contents, each.other.name, "", {name: found.value for name, found in each.other.metrics.items()})
        for each in contents.differences
    ]
    names = _metrics(contents)
    head = "".join(f'<th scope="col">{text(KINDS[name].title)}</th>' for name in names)
    place = '<th scope="col">place</th>' if contents.places else ""
    table = (
        '<div class="scroll" tabindex="0" role="group" aria-label="Runs"><table class="figures clusters"><thead><tr>'
        f'<th scope="col">run</th>{head}{place}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    return (
        f'<section aria-labelledby="runs"><h2 id="runs">The runs</h2><div class="tile">{table}{_board(contents)}</div>'
        f"{_frontier(contents)}</section>"
    )


def _metrics(contents: Contents) -> list[str]:
    return [name for name in contents.run.scores_by_name() if name in KINDS]


def _row(contents: Contents, name: str, note: str, values: dict[str, float]) -> str:
    cells = "".join(f"<td>{text(told_value(metric, values.get(metric)))}</td>" for metric in _metrics(contents))
    place = f"<td>{contents.places.places[name]}</td>" if contents.places else ""
    told = f' <span class="quiet">{note}</span>' if note else ""
    return f'<tr><th scope="row">{text(name)}{told}</th>{cells}{place}</tr>'


def _board(contents: Contents) -> str:
    places = contents.places
    if places is None:
        return ""
    left_out = f"; without {', '.join(places.left_out)}, which not all of these runs have" if places.left_out else ""
    told = (
        f"Place: each run for itself among the {places.systems} systems of the board, by {', '.join(places.criteria)} "
        f"({places.rules}){left_out}."
    )
    return f'<p class="quiet">{text(told)}</p>'


def _frontier(contents: Contents) -> str:
    if not contents.has_frontier:
        return f'<p class="quiet">No picture of quality against cost: {text(contents.frontier)}</p>'
    # As an image: its style cannot reach the page, nor the page's the picture.
    packed = base64.b64encode(contents.frontier.encode("utf-8", "replace")).decode("ascii")
    told = "Quality against memory and latency; filled points are on the frontier"
    return (
        f'<figure class="tile"><figcaption>{told}</figcaption><div class="scroll" tabindex="0" role="group" '
        f'aria-label="{told}"><img class="frontier" alt="{told}" src="data:image/svg+xml;base64,{packed}"></div>'
        "</figure>"
    )


def signatures(contents: Contents) -> str:
    """How each score was made, and how an earlier report's numbers may differ."""
    lines: dict[str, list[str]] = {}
    for each in contents.run.scores["metrics"]:
        told = each.get("signature") or each.get("protocol")
        if each.get("value") is not None and told:
            lines.setdefault(told, []).append(KINDS[each["name"]].title if each["name"] in KINDS else each["name"])
    rows = "".join(
        f"<div><dt>{text(', '.join(names))}</dt><dd><code>{text(told)}</code></dd></div>"
        for told, names in lines.items()
    )
    return (
        f'<details class="signatures"><summary>Signature of the score</summary><dl>{rows}</dl></details>'
        if rows
        else ""
    )
