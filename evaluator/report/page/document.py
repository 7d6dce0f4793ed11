"""The page itself: one HTML file that opens from disk and asks nothing of a network.

A content security policy lets it run the scripts and styles that are in it, known by their SHA-256, and nothing else:
what a transcript, an id or a file name says can neither run nor load anything. The file is written row by row, clip
by clip.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

from evaluator.errors import ResultError
from evaluator.files import replacing
from evaluator.report.clusters import FINDINGS
from evaluator.report.contents import Contents
from evaluator.report.differences import CHANGES
from evaluator.report.embedding import can_embed, choose, embedded
from evaluator.report.page import costs, parts, screen
from evaluator.report.page.escaping import data, text
from evaluator.report.rows import COLUMNS, row_values, shown_metrics, table_rows
from evaluator.scoring.result import KINDS

NAME = "report.html"
SCRIPTS = (
    *("vendor/tabulator.min.js", "vendor/wavesurfer.min.js", "vendor/spectrogram.min.js", "vendor/regions.min.js"),
    *("player.js", "clip.js", "clips.js"),
)
STYLES = ("vendor/tabulator_simple.min.css", "report.css")
LICENCES = {"Tabulator 6.5.3": "vendor/LICENSE.tabulator", "wavesurfer.js 8.0.1": "vendor/LICENSE.wavesurfer"}
WAVE_HEIGHT = 80
"""Of the waveform, in pixels; `assets/player.js` has the same, for the style that wavesurfer.js makes of it."""
_MAP = re.compile(r"\n?(?://# |/\*# )sourceMappingURL=[^\n]*\n?$")


def write_page(path: Path, contents: Contents, *, seconds: float) -> None:
    """Write the page, all or nothing.

    Args:
        path: the file.
        contents: what it says.
        seconds: of audio that may be in it; the clips that score worst come first.

    Raises:
        ResultError: it cannot be written.
    """
    try:
        with (
            replacing(path) as temporary,
            # Half a surrogate pair is no UTF-8; as an escape it is also JSON's.
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            _write(file, contents, seconds)
    except OSError as error:
        raise ResultError(f"Cannot write {path}: {error.strerror or error}.") from error


def _write(file: TextIO, contents: Contents, seconds: float) -> None:
    rows = table_rows(contents)
    inside = _embedded_rows(contents, rows, seconds)
    file.write(_head(contents))
    file.write(_body(contents, rows, inside))
    file.write(f'<script type="application/json" id="facts">{data(_facts(contents, rows))}</script>\n')
    file.write('<script type="application/json" id="rows">[')
    for number, values in enumerate(row_values(contents, rows, inside)):
        file.write(f"{',' if number else ''}\n{data(values)}")
    file.write("\n]</script>\n")
    for row, opus in embedded(inside, contents.run.system.paths):
        file.write(f'<script type="text/plain" id="clip-{row + 1}">{opus}</script>\n')
    for name in SCRIPTS:
        file.write(f"<script>{asset(name)}</script>\n")
    file.write("</body></html>\n")


def _embedded_rows(contents: Contents, rows: Sequence[int], seconds: float) -> list[int]:
    if not can_embed() or not seconds:
        return []
    shown = set(rows)
    wanted = [row for row in contents.worst_first() if row in shown]
    return choose(wanted, [each.audio_seconds for each in contents.run.predictions], seconds)


@functools.cache
def asset(name: str) -> str:
    """A file of `assets/` as the page has it: without the address of a source map, which would be asked for."""
    told = (resources.files("evaluator.report") / "assets" / name).read_text(encoding="utf-8")
    return _MAP.sub("", told)


def wave_style() -> str:
    """The style element that wavesurfer.js puts into its shadow tree, as it will be."""
    script = asset("vendor/wavesurfer.min.js")
    found = re.search(r"<style\$\{[^`]*?`nonce=[^}]*\}>|<style\$\{.*?\}>", script)
    assert found is not None
    style = script[found.end() : script.index("</style>", found.end())]
    style = re.sub(r"\$\{this\.getHeight\([^}]*\)\}", str(WAVE_HEIGHT), style)
    return style.replace("\\n", "\n")


def policy() -> str:
    """The content security policy: what the page may do at all."""
    scripts = " ".join(_hash(asset(name)) for name in SCRIPTS)
    styles = " ".join(_hash(told) for told in (*map(asset, STYLES), wave_style()))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data: blob:; "
        "media-src blob: file:; base-uri 'none'; form-action 'none'"
    )


def _hash(told: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(told.encode()).digest()).decode()}'"


def _head(contents: Contents) -> str:
    styles = "".join(f"<style>{asset(name)}</style>\n" for name in STYLES)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(screen.title_of(contents))}: report</title>\n{styles}</head>\n"
    )


def _body(contents: Contents, rows: Sequence[int], inside: Sequence[int]) -> str:
    return (
        '<body><a class="skip" href="#clips">To the clips</a>\n'
        f"{screen.header(contents)}\n<main>"
        f'<section aria-label="Overview"><div class="tiles">{screen.score_tile(contents)}'
        f"{screen.change_tile(contents)}{screen.answers_tile(contents)}{costs.cost_tile(contents)}"
        f"{costs.efficiency_tile(contents)}</div></section>\n"
        f"{parts.several(contents)}\n{parts.pictures(contents)}\n{parts.errors(contents)}\n"
        f"{_table(contents, rows)}</main>\n{_footer(contents, inside)}\n"
    )


def _table(contents: Contents, rows: Sequence[int]) -> str:
    left = len(contents.run.predictions) - len(rows)
    note = (
        f'<p class="quiet">The table has the {len(rows)} clips that score worst; the other {left} are in the figures '
        "and pictures above, and in predictions.jsonl.</p>"
        if left
        else ""
    )
    options = "".join(f'<option value="{text(key)}">{text(title)}</option>' for key, title in filters(contents))
    return (
        '<section id="clips" tabindex="-1" aria-labelledby="clips-title"><h2 id="clips-title">Clips</h2>'
        f'{note}<div class="toolbar"><label>Search <input type="search" id="search" autocomplete="off" '
        'placeholder="id, reference, answer"></label>'
        f'<label>Show <select id="filter">{options}</select></label>'
        '<output id="count" aria-live="polite"></output></div>'
        '<div id="table"></div><noscript><p>The table of clips needs JavaScript, which is in this file.</p></noscript>'
        '<p class="quiet keys">Arrow keys go from clip to clip, Enter opens one, Escape closes it.</p></section>'
        '<dialog id="clip" aria-labelledby="clip-title"></dialog>'
    )


def filters(contents: Contents) -> Iterator[tuple[str, str]]:
    """What the table can be narrowed to: key -> title with the number of clips."""
    yield "", f"all clips ({len(contents.run.predictions)})"
    kind, (above, below) = contents.run.kind, contents.run.sums
    if kind is not None and (kind.unit or set(above) <= {0.0, 1.0}):
        wrong = sum((over > 0) if kind.unit else over < 1 for over, under in zip(above, below, strict=True) if under)
        yield "wrong", f"wrong ({wrong})"
        yield "right", f"right ({len(above) - wrong})"
    for place, told in enumerate(contents.differences):
        for change in CHANGES:
            if rows := told.rows(change):
                yield f"change:{place}:{change}", f"{change} since {told.other.name} ({len(rows)})"
    for key, found in contents.findings.items():
        yield f"flag:{key}", f"{FINDINGS[key]} ({len(found)})"
    for each in contents.clusters:
        if each.key not in contents.findings:
            yield each.filter, f"{each.title} ({len(each.rows)})"
    if suspects := contents.all_suspects():
        yield "flag:suspect", f"suspect references ({len(suspects)})"


def _facts(contents: Contents, rows: Sequence[int]) -> dict[str, Any]:
    """What the scripts know besides the rows."""
    kind = contents.run.kind
    titles = dict(FINDINGS)
    titles |= {each.key: each.title for each in contents.clusters}
    return {
        "columns": COLUMNS,
        "rows": len(rows),
        "metric": None if kind is None else kind.title,
        "percent": bool(kind and kind.unit),
        "higherIsBetter": bool(kind is None or kind.higher_is_better),
        "unit": contents.aligner.unit or (kind.unit if kind else ""),
        "notAligned": contents.aligner.reason,
        "metrics": [
            {"title": KINDS[name].title, "percent": bool(KINDS[name].unit)} for name in shown_metrics(contents)
        ],
        "others": [told.other.name for told in contents.differences],
        "titles": titles | {"suspect": "suspect reference"},
        "joined": sorted(row + 1 for row in contents.facts.joined),
    }


def _footer(contents: Contents, inside: Sequence[int]) -> str:
    seconds = sum(min(contents.run.predictions[row].audio_seconds, 30.0) for row in inside)
    clips = len(contents.run.predictions)
    if len(inside) == clips:
        told = f"All {clips} clips are in this file ({seconds:.0f} s, Opus)."
    elif inside:
        told = (
            f"{len(inside)} of {clips} clips are in this file (the ones that score worst, {seconds:.0f} s, Opus); the "
            "others are played from where they lie on this machine."
        )
    else:
        told = "No clip is in this file: clips are played from where they lie on this machine."
    licences = "".join(f"<h3>{name}</h3><pre>{text_lines(asset(file))}</pre>" for name, file in LICENCES.items())
    return (
        f"<footer>{parts.signatures(contents)}<p>{told} The file names folders "
        "of this machine; it loads nothing from a network.</p><details><summary>Licences of what is in this file"
        f"</summary>{licences}</details></footer>"
    )


def text_lines(told: str) -> str:
    """Text of several lines, as HTML."""
    return "\n".join(text(line) for line in told.splitlines())
