"""BENCHMARKS.md and its plot, from the files of results. What is said in words stands in words.md, kept by hand."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.command import ROOT
from tests.bench.results import FOLDER, medians, ratios

PAGE, PLOT = ROOT / "BENCHMARKS.md", Path(__file__).parent / "rates.svg"
WORDS = Path(__file__).parent / "words.md"
MIB = 2**20
_HEAD = """# Benchmarks

Seconds are medians. `whole` is the process from its start to its end, `inside` begins once the libraries are imported.
`×` is how many times maskmill's seconds a peer takes, the median of the ratios within each round: above 1, maskmill is
quicker. Peers take turns, so that what the machine does to one it does to all. Memory is the peak of all processes of a
peer together, PSS, looked at several times a second. `make bench` measures again.
"""


def write() -> None:
    """Write the page and the plot beside the benchmark. Raises SystemExit where nothing was measured yet."""
    books = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    books = [book for book in books if book["rounds"]]
    if not books:
        raise SystemExit(f"Nothing was measured yet: {FOLDER} has no results.")
    PAGE.write_text(page(books, WORDS.read_text(encoding="utf-8")), encoding="utf-8")
    PLOT.write_text(plot([book for book in books if book["part"] == "peers"]), encoding="utf-8")
    print(f"report: {PAGE.name} and {PLOT.name}, from {len(books)} files")


def page(books: list[dict], words: str) -> str:
    """The page, as Markdown."""
    order = sorted(books, key=lambda book: ["peers", "copy", "workers"].index(book["part"]))
    parts = [f"## {_title(book)}\n\n{_facts(book)}\n\n{_TABLES[book['part']](book)}" for book in order]
    picture = f"![megapixels per second]({PLOT.relative_to(ROOT).as_posix()})"
    return "\n\n".join([_HEAD.strip(), picture, *parts, words.strip(), _machines(order)]) + "\n"


def rows_of(book: dict) -> list[dict]:
    """Each peer's figures as they are shown, the quickest first; `bare` has no command, so its inside is its whole."""
    rounds = [
        {peer: one | ({"whole": one["inside"]} if peer == "bare" else {}) for peer, one in each.items()}
        for each in book["rounds"]
    ]
    whole, inside = ratios(rounds, "whole"), ratios(rounds, "inside")
    rows = []
    for peer, figures in medians(rounds).items():
        all_seconds = [each[peer]["whole"] for each in rounds if peer in each]
        times = {"× whole": whole.get(peer), "× inside": inside.get(peer)}
        rows.append({"peer": peer, **figures, **times, "range": (min(all_seconds), max(all_seconds))})
    return sorted(rows, key=lambda row: row["whole"])


def _peers(book: dict) -> str:
    settings, facts = book["settings"], book.get("facts", {})
    millions, crop = settings["rows"] * settings["cols"] / 1e6, settings["crop"][2] ** 2 / 1e6
    exact = settings["kind"] == "exact"
    lines = [
        f"| peer | whole, s | inside, s | megapixels/s | × whole | × inside | peak, MiB | window, overlap | "
        f"{'differing' if exact else 'unlike maskmill'}, per million |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows_of(book):
        fact = facts.get(row["peer"], {})
        apart = fact.get("differing")
        low, high = row["range"]
        cells = [
            f"`{row['peer']}`",
            f"{row['whole']:.1f} ({low:.1f} to {high:.1f})" if row["peer"] != "bare" else "",
            f"{row['inside']:.1f}",
            f"{millions / row['whole']:.2f}",
            _times(row["× whole"]),
            _times(row["× inside"]),
            f"{row['peak'] / MIB:.0f}",
            f"{fact.get('window', '')}, {fact.get('overlap', '')}",
            "" if apart is None else f"{apart / crop:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    failed = [f"`{peer}` failed: {why.splitlines()[-1]}" for peer, why in book.get("failed", {}).items()]
    return "\n".join(lines + (["", *failed] if failed else []))


def _copy(book: dict) -> str:
    millions = book["settings"]["rows"] * book["settings"]["cols"] / 1e6
    lines = [
        "| | whole, s | inside, s | megapixels/s | × whole | × inside | peak, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['peer']}` | {row['whole']:.1f} | {row['inside']:.1f} | {millions / row['whole']:.1f} | "
        f"{_times(row['× whole'])} | {_times(row['× inside'])} | {row['peak'] / MIB:.0f} |"
        for row in rows_of(book)
    ]
    return "\n".join([*lines, "", f"Pixels that differ between both: {book['differing']}."])


def _workers(book: dict) -> str:
    found, rounds = medians(book["rounds"]), book["rounds"]
    lines = ["| | one worker, s | two workers, s | quicker by |", "|---|---|---|---|"]
    for figure, name in (("blocks", "the blocks"), ("inside", "the command, imported"), ("whole", "the whole command")):
        times = ratios(rounds, figure, to="2")["1"]
        lines.append(f"| {name} | {found['1'][figure]:.1f} | {found['2'][figure]:.1f} | {times:.2f} × |")
    return "\n".join(lines)


_TABLES = {"peers": _peers, "copy": _copy, "workers": _workers}


def _title(book: dict) -> str:
    said = {"peers": "Peers", "copy": "Reading and writing alone", "workers": "Two workers against one"}
    return said[book["part"]] + ("" if book["part"] == "copy" else f": {book['network']}")


def _facts(book: dict) -> str:
    settings, busy = book["settings"], book.get("busy", [0.0])
    said = [
        f"{settings['rows']} × {settings['cols']} px, {book['date']}, rounds: {len(book['rounds'])}, "
        f"`{book['command']}`. Others used {min(busy):.0f} to {max(busy):.0f} % of the machine just before the rounds."
    ]
    if "crop" in settings and settings["kind"] == "exact":
        said.append(f"Differing from one pass, in a crop of {settings['crop'][2]} px a side.")
    if "parity" in book:
        said.append(f"The torch network's logits are within {book['parity']:.1g} of ONNX Runtime's.")
    return " ".join(said)


def _machines(books: list[dict]) -> str:
    said = dict.fromkeys(_machine(book) for book in books)
    versions: dict[str, None] = {}
    for book in books:
        for fact in book.get("facts", {}).values():
            versions |= dict.fromkeys(f"{name} {number}" for name, number in fact["versions"].items())
    return "\n\n".join(["## Machine", *said, ", ".join(sorted(versions))]).strip()


def _machine(book: dict) -> str:
    one = book["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
    return f"{one['cpu']}, {one['cores']} cores, {one['memory']} GiB, Python {one['python']}, {versions}."


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def plot(books: list[dict]) -> str:
    """Megapixels per second of the whole command, as an SVG: bars, a group for each network."""
    left, bar, width, y, parts = 150, 18, 720, 10, []
    for book in books:
        millions = book["settings"]["rows"] * book["settings"]["cols"] / 1e6
        rates = {row["peer"]: millions / row["whole"] for row in rows_of(book)}
        y += 24
        parts.append(f'<text x="{left}" y="{y}" font-weight="bold">{book["network"]}</text>')
        for peer, rate in rates.items():
            y += bar + 4
            long = (width - left - 70) * rate / max(rates.values())
            colour = {"maskmill": "#1f4e8c", "bare": "#bbbbbb"}.get(peer, "#c8b98a")
            parts += [
                f'<text x="{left - 8}" y="{y}" text-anchor="end">{peer}</text>',
                f'<rect x="{left}" y="{y - 13}" width="{long:.1f}" height="{bar}" fill="{colour}"/>',
                f'<text x="{left + long + 6:.1f}" y="{y}">{rate:.2f}</text>',
            ]
        y += 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 30}" font-family="sans-serif"'
    note = f'<text x="{left}" y="{y + 16}" fill="#666">megapixels per second, the whole command</text>'
    white = f'<rect width="{width}" height="{y + 30}" fill="white"/>'
    return "\n".join([f'{head} font-size="13">', white, *parts, note, "</svg>"]) + "\n"
