"""What a run cost: speed, memory and time of the run itself, and what an efficiency.json says of its model; as HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.report.contents import Contents
from evaluator.report.page.escaping import text

_STAGES = {
    "preflight": "checks",
    "load_model": "loading",
    "meet": "waiting for processes",
    "predict": "answering",
    "write_csv": "CSV",
    "score": "scoring",
    "latency": "latency pass",
}
_LATENCIES = (
    ("first step", "batch1_first_step_seconds_p50"),
    ("further token", "batch1_further_token_seconds_p50"),
    ("whole text", "batch1_final_text_seconds_p50"),
)
_MEMORIES = (
    ("device, one clip at a time", "device_batch1"),
    ("device, all at once", "device_full"),
    ("device, since start", "device_since_start"),
    ("process", "process_since_start"),
)

_MEASURED = (
    ("TTFT + TPOT", "challenge_latency_seconds"),
    ("TTFT", "challenge_ttft_seconds"),
    ("TPOT", "challenge_tpot_seconds"),
    ("memory", "challenge_memory_bytes"),
    ("TTFT + TPOT, device waited for", "waited_latency_seconds"),
)
"""What the challenge's protocol measures; docs/efficiency.md says what each is."""
_COLOURS = 8


def cost_tile(contents: Contents) -> str:
    """Speed, memory, latency, and where the time went."""
    record = contents.run.record
    lines: list[tuple[str, str]] = []
    if record.rtfx is not None:
        lines.append(("RTFx", f"{record.rtfx:.1f} s of audio a second"))
    latency = record.latency or {}
    figures = latency.get("figures") or {}
    times = [(title, figures[name]["median"]) for title, name in _LATENCIES if isinstance(figures.get(name), dict)]
    lines += [(title, quantity(seconds, "s")) for title, seconds in times]
    peaks = record.peak_memory_bytes or {}
    lines += [(title, quantity(peak, "B")) for title, key in _MEMORIES if (peak := peaks.get(key))]
    told = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in lines)
    stages = [(_STAGES.get(name, name), float(seconds)) for name, seconds in record.seconds.items()]
    return (
        f'<section class="tile"><h2>Speed and memory</h2><table class="figures"><tbody>{told}</tbody></table>'
        f"{_note(latency, measured=bool(times))}{bar('Time of the run', stages, 's')}</section>"
    )


def _note(latency: Mapping[str, Any], *, measured: bool) -> str:
    """How latency was measured, or why it was not."""
    clips, reason = (latency.get("clips") or {}).get("measured"), latency.get("reason")
    if clips and not reason:
        few = f"Latency: its time sufficed for {clips} clips alone, too few for a median."
        reason = f"Latency: medians of {clips} clips alone." if measured else few
    return f"<p class=quiet>{text(reason)}</p>" if reason else ""


def efficiency_tile(contents: Contents) -> str:
    """What an efficiency.json of the same model says, as a tile; "" where there is none with components."""
    told = contents.efficiency or {}
    components = told.get("components")
    if not isinstance(components, dict) or not components:
        return ""
    figures = told.get("figures") or {}
    lines = "".join(_line(title, figures[name], name) for title, name in _MEASURED if figures.get(name))
    where = (told.get("protocol") or {}).get("clip"), (told.get("settings") or {}).get("device")
    notes = "".join(f"<li>{text(each)}</li>" for each in told.get("notes") or ())
    listed = f'<ul class="plain quiet">{notes}</ul>' if notes else ""
    return (
        '<section class="tile whole"><h2>Efficiency, measured apart</h2>'
        f'<p class="quiet">{text(", ".join(str(each) for each in where if each))}</p>'
        f'<div class="apart"><table class="figures"><tbody>{lines}</tbody></table><div>{_components(components)}</div>'
        f"</div>{listed}</section>"
    )


def _line(title: str, figure: Mapping[str, Any], name: str) -> str:
    unit = "B" if name.endswith("_bytes") else "s"
    median, low, high = (quantity(figure[key], unit) for key in ("median", "lowest", "highest"))
    spread = f"{low} to {high}" if low != high else ""
    return f'<tr><th scope="row">{text(title)}</th><td>{median}</td><td class="quiet">{spread}</td></tr>'


def _components(found: Mapping[str, Any]) -> str:
    """Time, weights and activations of each component."""
    seconds = [(name, float(each["seconds"]["median"])) for name, each in found.items() if each.get("seconds")]
    sizes = {
        title: [(name, float(each.get(key) or 0)) for name, each in found.items()]
        for title, key in (("Weights", "weights_bytes"), ("Activations, each component's most", "activations_bytes"))
    }
    return bar("Time by component", seconds, "s") + "".join(bar(title, parts, "B") for title, parts in sizes.items())


def quantity(value: float, unit: str) -> str:
    """A time or a size in the unit that reads best: (0.0141, "s") -> "14.1 ms", (4.9e6, "B") -> "4.67 MiB"."""
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    size = value / (1 << 20)
    return f"{size / 1024:.2f} GiB" if size >= 100 else f"{size:.3g} MiB"


def bar(title: str, parts: Sequence[tuple[str, float]], unit: str) -> str:
    """Parts of a whole as one bar with its legend; parts below half a percent have no piece of the bar.

    Args:
        title: above the bar.
        parts: name and value of each.
        unit: "s" for seconds, "B" for bytes.
    """
    whole = sum(value for _, value in parts)
    shown = [(number, *part) for number, part in enumerate(parts) if whole and part[1] / whole >= 0.005]
    if not shown:
        return ""
    left, pieces, legend = 0.0, [], []
    for number, name, value in shown:
        wide = 300 * value / whole
        # The same part has the same colour in every bar.
        colour = f"part-{number % _COLOURS}"
        pieces.append(f'<rect class="{colour}" x="{left:.1f}" y="0" width="{max(wide - 1, 0.5):.1f}" height="12"/>')
        legend.append(f'<li><i class="{colour}"></i>{text(name)} <b>{quantity(value, unit)}</b></li>')
        left += wide
    return (
        f'<figure class="bar-figure"><figcaption>{text(title)}</figcaption><svg viewBox="0 0 300 12" '
        f'preserveAspectRatio="none" aria-hidden="true">{"".join(pieces)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul></figure>'
    )
