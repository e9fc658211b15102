"""A plan in a person's words: what `maskmill plan` shows where JSON is not asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.screen import counted, duration, size


def in_words(plan: Mapping[str, Any]) -> dict[str, str]:
    """The lines of one scene's plan, of what `Settled.as_dict` says, by their headings."""
    rows, cols = plan["shape"]
    what = "the tiles under the other blocks" if plan["blocks_outside"] else "the image"
    lines = {
        "image": f"{rows:,} × {cols:,} px, {plan['pixels'] / 1e6:,.4g} megapixels",
        "blocks": f"{counted(plan['blocks'], 'block')} of {plan['block']:,} px, each written by one worker",
        "outside": plan["blocks_outside"] and f"{counted(plan['blocks_outside'], 'block')}, which are never read",
        "resolution": _zoom(plan["zoom"]),
        "windows": f"{counted(plan['windows'], 'window')} of {plan['window']:,} px, cores of {plan['core']:,} px",
        "tuned": _tuned(plan["tuned"], plan["margin"]),
        "margin": f"{plan['margin']} px, {plan['margin_kind']}: {plan['margin_why']}{_difference(plan)}",
        "computed": f"{plan['computed_per_pixel']:.3g} pixels for each pixel of the image",
        "read": f"{size(plan['bytes_read'])}, {plan['read_amplification']:.3g} times {what}",
        "staged": plan["staged"],
        "memory": _memory(plan["memory"]),
        "disk": f"{size(plan['disk'])} at most, while it is published",
        "device": _device(plan),
        "time": f"about {duration(plan['seconds'])}, and the publishing" if plan["seconds"] else "unknown",
        "identity": plan["identity"],
        "notes": " ".join(plan["notes"]),
    }
    return {heading: words for heading, words in lines.items() if words}


def _device(plan: Mapping[str, Any]) -> str:
    said = f"{plan['device']}, {counted(plan['batch'], 'window')} at once ({plan['numeric_class']})"
    share = plan["agreement_with_cpu"]
    return said if share is None else f"{said}; it agrees with the CPU on {share:.3%} of a probe's pixels"


def _zoom(zoom: float) -> str | None:
    return None if zoom == 1 else f"the network sees {zoom:.4g} pixels for each pixel along a side of the image"


def _tuned(paces: Sequence[Mapping[str, Any]], margin: int) -> str | None:
    said = (
        f"{pace['core'] + 2 * margin:,} px {pace['rate']:.3g} ({counted(pace['at_once'], 'run')} side by side)"
        for pace in paces
    )
    return f"megapixels in a second, by window: {', '.join(said)}" if paces else None


def _difference(plan: Mapping[str, Any]) -> str:
    found = plan["margin_difference"]
    return "" if found is None else f"; the largest difference found is {found:.2g}"


def _memory(planned: Mapping[str, int]) -> str:
    return (
        f"{size(planned['memory'])}: {counted(planned['workers'], 'worker')} of {size(planned['worker'])}, "
        f"the coordinator {size(planned['coordinator'])}"
    )
