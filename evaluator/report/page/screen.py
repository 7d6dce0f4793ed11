"""The first screen of a report: score, what changed, cost, answers that went wrong; as HTML, drawn once.

Every text of others goes through `text`; what a button shows in the table of clips is its `data-filter`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluator.report.clusters import FINDINGS
from evaluator.report.contents import Contents, told_value
from evaluator.report.differences import CHANGES, Difference
from evaluator.report.page.escaping import text
from evaluator.scoring.result import KINDS
from evaluator.tasks import is_scored, task_of
from evaluator.wording import duration

LARGEST_P = 0.05
"""A difference with a larger p is not called one."""
_MOST_SETTINGS = 8
_MOST_NOTICES = 6


def header(contents: Contents) -> str:
    """Title and what was run."""
    run, record = contents.run, contents.run.record
    title = task_of(record.mode).title if record.mode and is_scored(record.mode) else run.system.task  # type: ignore[arg-type]
    seconds = sum(each.audio_seconds for each in run.predictions)
    facts = [
        ("Model", record.model or "-"),
        ("Checkpoint", Path(str((record.checkpoint or {}).get("path") or "-")).name),
        ("Clips", f"{len(run.predictions)}, {duration(seconds)} of audio"),
        ("Annotation", Path(str((record.annotation or {}).get("path") or "-")).name),
        ("Begun", _moment(record.started)),
    ]
    told = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts)
    warnings = "".join(f'<p class="banner">{text(each)}</p>' for each in _warnings(contents))
    return (
        f'<header><p class="product">audiolm-evaluator</p><h1>{text(title[:1].upper() + title[1:])}</h1>'
        f'<p class="run-name">{text(title_of(contents))}</p><dl class="facts">{told}</dl>{warnings}</header>'
    )


def title_of(contents: Contents) -> str:
    """What the run is called: its folder, with the name that was given to it before it."""
    run = contents.run
    named = run.name in (run.folder.name, run.folder.absolute().parent.parent.name)
    return run.folder.absolute().name if named else f"{run.name}: {run.folder.absolute().name}"


def _warnings(contents: Contents) -> list[str]:
    record = contents.run.record
    found = []
    if str((record.config or {}).get("model", {}).get("ckpt")).lower() == "none":
        found.append("Untrained model (checkpoint none): its answers mean nothing.")
    if record.limit is not None:
        found.append(f"Only the first {record.limit} rows: scores of a part do not compare.")
    if record.control is not None:
        found.append(f"Control run: the model heard {record.control} instead of the clips.")
    return found


def score_tile(contents: Contents) -> str:
    """The first metric in large, the others below it, and why some are not there."""
    metrics = contents.run.scores["metrics"]
    first = next((each for each in metrics if each["name"] == contents.run.metric), None)
    first = first or next((each for each in metrics if each.get("value") is not None), None)
    if first is None:
        reasons = "".join(f"<li>{text(_title(each))}: {text(each.get('reason'))}</li>" for each in metrics)
        head = '<section class="tile wide"><h2>Score</h2><p class="large">none</p>'
        return f'{head}<ul class="plain">{reasons}</ul></section>'
    others = "".join(_metric_line(each) for each in metrics if each is not first and each.get("value") is not None)
    missing = _missing([each for each in metrics if each.get("value") is None])
    return (
        f'<section class="tile wide" aria-labelledby="score-title"><h2 id="score-title">{text(_title(first))}</h2>'
        f'<p class="large">{text(told_value(first["name"], first["value"]))}</p>{_interval(first)}'
        f'<p class="quiet">{text(_made_of(contents, first))}</p>'
        f"{f'<table class=figures><tbody>{others}</tbody></table>' if others else ''}{missing}</section>"
    )


def _title(metric: Mapping[str, Any]) -> str:
    return KINDS[metric["name"]].title if metric["name"] in KINDS else str(metric["name"])


def _metric_line(metric: Mapping[str, Any]) -> str:
    interval = metric.get("interval") or {}
    told = ""
    if interval.get("low") is not None:
        low, high = (told_value(metric["name"], interval[key]).removesuffix(" %") for key in ("low", "high"))
        told = f"{low} to {high}"
    value = told_value(metric["name"], metric["value"])
    return f'<tr><th scope="row">{text(_title(metric))}</th><td>{text(value)}</td><td class="quiet">{told}</td></tr>'


def _missing(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Metrics without a value; one reason is told once."""
    reasons: dict[str, list[str]] = {}
    for each in metrics:
        why = "; ".join(filter(None, (each.get("reason"), each.get("fix"))))
        reasons.setdefault(why, []).append(_title(each))
    return "".join(
        f'<p class="quiet">{text(", ".join(names))} unavailable: {text(why)}</p>' for why, names in reasons.items()
    )


def _interval(metric: Mapping[str, Any]) -> str:
    """The interval as a bar and in words."""
    interval = metric.get("interval") or {}
    low, high = interval.get("low"), interval.get("high")
    if low is None or high is None:
        return f'<p class="quiet">{text(interval.get("remark") or "no interval")}</p>'
    # The bar begins at 0, so that its length says how large the interval is beside the score.
    whole = max(high, metric["value"]) * 1.12 or 1.0
    left, right, mark = (200 * each / whole for each in (low, high, metric["value"]))
    remark = f' <span class="quiet">{text(interval["remark"])}</span>' if interval.get("remark") else ""
    low_told, high_told = (told_value(metric["name"], each) for each in (low, high))
    units = f"{interval['units']} {interval['unit']}{'' if interval['units'] == 1 else 's'}"
    return (
        '<svg class="interval" viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="5" width="200" height="4"/>'
        f'<rect class="range" x="{left:.1f}" y="3" width="{max(right - left, 1):.1f}" height="8"/>'
        f'<rect class="mark" x="{max(mark - 0.75, 0):.1f}" y="0" width="1.5" height="14"/></svg>'
        f"<p>{100 * interval['level']:g} % interval {text(low_told.removesuffix(' %'))} to {text(high_told)}, "
        f"{text(units)}{remark}</p>"
    )


def _made_of(contents: Contents, metric: Mapping[str, Any]) -> str:
    """11 substituted, 0 left out, 3 too many in 531 words; or the metric's scale."""
    counts = contents.run.scores["details"].get({"wer": "words", "cer": "characters"}.get(metric["name"], ""))
    if not counts:
        better = "higher" if metric.get("higher_is_better", True) else "lower"
        return f"scale {metric.get('scale', '')}; {better} is better"
    unit = "words" if metric["name"] == "wer" else "characters"
    return (
        f"{counts['substitutions']} substituted, {counts['deletions']} left out, {counts['insertions']} too many "
        f"in {counts['reference_length']} {unit}"
    )


def change_tile(contents: Contents) -> str:
    """What changed since the last comparable run, or against the runs that were given."""
    if not contents.differences:
        why = contents.not_compared or "No earlier run of this set lies beside this one."
        told = f"<p>{text(why)}</p>"
        return f'<section class="tile"><h2>Since the last run</h2>{told}</section>'
    parts = []
    for place, each in enumerate(contents.differences):
        title = f"Against {each.other.name}" if contents.others_given else "Since the last run"
        parts.append(f'<section class="tile"><h2>{text(title)}</h2>{_difference(contents, each, place)}</section>')
    return "".join(parts)


def _difference(contents: Contents, told: Difference, place: int) -> str:
    before, now = told.values
    change = now - before
    better = (change > 0) == KINDS[told.metric].higher_is_better
    shown = change != 0 and (told.pair is None or told.pair.p <= LARGEST_P)
    kind = "" if not shown else "good" if better else "bad"
    name = "" if contents.others_given else f'<p class="quiet">{text(told.other.name)}</p>'
    return (
        f"{name}"
        f'<p class="medium {kind}">{text(told_value(told.metric, change, signed=True))}'
        f' <span class="unit">{text(KINDS[told.metric].title)}</span></p>'
        f"<p>{text(verdict(told))}</p>{_change_list(told, place)}{_settings(told)}{_place(contents, told)}"
    )


def verdict(told: Difference) -> str:
    """Whether the difference is one: "better (p 0.012)"."""
    change = told.values[1] - told.values[0]
    if not told.changes:
        return "No clip changed."
    if told.pair is None:
        return "better" if (change > 0) == KINDS[told.metric].higher_is_better and change else "not tested"
    p = f"p {told.pair.p:.4f}" if told.pair.p >= 0.0001 else "p below 0.0001"
    if told.pair.p > LARGEST_P:
        return f"No difference is shown ({p})."
    return f"{'Better' if (change > 0) == KINDS[told.metric].higher_is_better else 'Worse'} ({p})."


def _change_list(told: Difference, place: int) -> str:
    lines = []
    for change in CHANGES:
        if rows := told.rows(change):
            effect = told_value(told.metric, told.effects[change], signed=True)
            clips = f"{len(rows)} {change}"
            lines.append(
                f'<tr><th scope="row">{clips}</th><td>{text(effect)}</td>'
                f"<td>{show_button(f'change:{place}:{change}', f'the clips that are {change}')}</td></tr>"
            )
    return f'<table class="figures"><tbody>{"".join(lines)}</tbody></table>' if lines else ""


def _settings(told: Difference) -> str:
    """What the runs were made of and differs."""
    if not told.settings:
        return '<p class="quiet">Configuration, versions and files are the same.</p>'
    lines = [
        f"<li><b>{text(name)}</b> <span>{text(_short(was))} \u2192 {text(_short(now))}</span></li>"
        for name, (was, now) in list(told.settings.items())[:_MOST_SETTINGS]
    ]
    left = len(told.settings) - len(lines)
    more = f'<li class="quiet">and {left} more (audiolm-evaluator compare lists them)</li>' if left > 0 else ""
    return f'<ul class="plain settings">{"".join(lines)}{more}</ul>'


def _place(contents: Contents, told: Difference) -> str:
    if contents.places is None:
        return ""
    was, now = (contents.places.places[name] for name in (told.other.name, contents.run.name))
    return f"<p>Place {was} \u2192 {now} of {contents.places.systems + 1} on the board.</p>"


def answers_tile(contents: Contents) -> str:
    """Rows by what became of them, kinds of wrong answers, what the user was told."""
    record, counts = contents.run.record, contents.run.record.counts or {}
    failed, limit = contents.findings.get("failed", []), contents.findings.get("token_limit", [])
    lines = [
        ("clips", len(contents.run.predictions), ""),
        ("without an answer", len(failed), "failed"),
        (
            f"longer than the {record.heard_seconds:g} s heard" if record.heard_seconds else "cut",
            counts.get("cut", 0),
            "",
        ),
        (FINDINGS["token_limit"], len(limit), "token_limit"),
    ]
    lines += [
        (FINDINGS[key], len(rows), key)
        for key, rows in contents.findings.items()
        if key not in ("failed", "token_limit")
    ]
    if suspects := contents.all_suspects():
        lines.append(("suspect references", len(suspects), "suspect"))
    told = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{number}</td>'
        f"<td>{show_button(f'flag:{key}', name) if key and number else ''}</td></tr>"
        for name, number, key in lines
    )
    notices = "".join(f"<li>{text(each)}</li>" for each in (record.notices or [])[:_MOST_NOTICES])
    return (
        f'<section class="tile"><h2>Answers</h2><table class="figures"><tbody>{told}</tbody></table>'
        f"{f'<ul class=plain>{notices}</ul>' if notices else ''}</section>"
    )


def show_button(key: str, what: str) -> str:
    """A button that shows some of the clips in the table."""
    return f'<button type="button" class="show" data-filter="{text(key)}" aria-label="Show {text(what)}">Show</button>'


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:18]}\u2026{value[-18:]}"


def _moment(moment: str) -> str:
    """2026-11-26T03:28:09+00:00 -> 26 November 2026, 03:28."""
    try:
        told = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return f"{told.day} {told:%B %Y, %H:%M}"
