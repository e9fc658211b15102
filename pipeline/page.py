"""One HTML file that needs nothing beside it: no network, no script; pictures lie inside, small.

What is not `Raw` is escaped. The page's own policy forbids it to fetch anything, whatever stands in it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from PIL import Image

PICTURE_BYTES = 60_000  # of each picture, at most
_WIDEST, _QUALITIES = 960, (75, 55, 35)  # px, and JPEG's; then narrower
_SPARK = (72, 16)  # px: width and height of a row of results drawn as a line

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--bad:#c22;--good:#282}
@media (prefers-color-scheme:dark){:root{--bad:#f77;--good:#7c7}}
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:72rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:1.8rem 0 .4rem}
p{margin:.4rem 0}.soft{opacity:.75;font-size:.9rem}.bad{color:var(--bad)}.good{color:var(--good)}
.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}
.facts div{background:var(--soft);border-radius:.5rem;padding:.5rem .8rem}
.facts b{display:block;font-size:1.2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
li{overflow-wrap:anywhere;margin:.2rem 0}td{overflow-wrap:break-word}
figure{margin:1rem 0}img{max-width:100%;height:auto;display:block}figcaption{font-size:.9rem}
svg{stroke:currentColor;fill:none;stroke-width:1.5;vertical-align:middle}
""".strip()

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Raw(str):
    """Text that is HTML already. What is put together from it by + or an f-string is text again, and escaped."""

    __slots__ = ()


class Number(str):
    """Text that belongs to the right of its column."""

    __slots__ = ()


def safe(text: str) -> Raw:
    """Text as HTML."""
    return text if isinstance(text, Raw) else Raw(escape(text))


def tagged(name: str, *parts: str, kind: str = "") -> Raw:
    """An element that holds parts, one after another."""
    opening = f'{name} class="{escape(kind)}"' if kind else name
    return Raw(f"<{opening}>{''.join(safe(part) for part in parts)}</{name}>")


def section(title: str, *parts: Raw) -> Raw:
    """A heading, and what stands under it; nothing where there is nothing."""
    body = "".join(parts)
    return Raw(f"<section>{tagged('h2', title)}{body}</section>") if body else Raw("")


def listed(lines: Iterable[str]) -> Raw:
    """A line for each; nothing where there is none."""
    items = "".join(tagged("li", line) for line in lines)
    return Raw(f"<ul>{items}</ul>") if items else Raw("")


def facts(pairs: Iterable[tuple[str, str]]) -> Raw:
    """Numbers that are to be seen first: (what, how much)."""
    return Raw(f'<div class="facts">{"".join(tagged("div", tagged("b", much), what) for what, much in pairs)}</div>')


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Raw:
    """A table that is scrolled for itself where the screen is narrow; nothing where it has no row."""
    if not rows:
        return Raw("")
    head = "".join(tagged("th", one, kind=_side(cell)) for one, cell in zip(heads, rows[0], strict=True))
    body = "".join(tagged("tr", *(tagged("td", cell, kind=_side(cell)) for cell in row)) for row in rows)
    return Raw(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _side(cell: str) -> str:
    return "n" if isinstance(cell, Number) else ""


def spark(values: Sequence[float]) -> Raw:
    """Numbers as a small line, from the oldest; nothing for fewer than two."""
    if len(values) < 2:
        return Raw("")
    (width, height), low, high = _SPARK, min(values), max(values)
    step, span = (width - 2) / (len(values) - 1), (high - low) or 1.0
    points = " ".join(
        f"{1 + step * at:.1f},{height - 2 - (height - 4) * (value - low) / span:.1f}" for at, value in enumerate(values)
    )
    said = escape(f"{len(values)} results, from {low:.4g} to {high:.4g}")
    return Raw(
        f'<svg width="{width}" height="{height}" role="img" aria-label="{said}"><title>{said}</title>'
        f'<polyline points="{points}"/></svg>'
    )


def figure(picture: bytes, words: str) -> Raw:
    """A JPEG with words under it."""
    data = base64.b64encode(picture).decode("ascii")
    return Raw(
        f'<figure><img loading="lazy" src="data:image/jpeg;base64,{data}" alt="{escape(words)}">'
        f"{tagged('figcaption', words)}</figure>"
    )


def small(source: Path | Image.Image) -> bytes | None:
    """A picture as a JPEG of at most `PICTURE_BYTES`; None where there is none that can be read."""
    try:
        image = Image.open(source) if isinstance(source, Path) else source
        image = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for a damaged file
        return None
    image.thumbnail((_WIDEST, _WIDEST), Image.Resampling.BOX)
    while True:
        for quality in _QUALITIES:
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= PICTURE_BYTES:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.BOX)


def page(title: str, *parts: str) -> bytes:
    """The whole file."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "".join(safe(part) for part in parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode(
        "utf-8", "replace"
    )
