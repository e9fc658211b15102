"""What of a run is shown on its page in Prefect: scenes, the worst first, their pictures, and what went wrong.

Plain data without secrets; who gives it to Prefect is `flows.segment`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from flows.masking import masked
from pipeline.morning import Night, facts
from pipeline.morning_page import HTML
from pipeline.page import small

ROWS, PICTURES = 200, 20  # shown at most: the server keeps it all in its database
MOST = 400_000  # bytes of all pictures together


def worst_first(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scenes of a JobReport's mapping in the order of the morning's report, each with what is known of it."""
    scenes: list[dict[str, Any]] = facts({"problems": (), **report}, Night(0.0, 0.0), {}, ())["scenes"]
    reasons = {line["scene"]: [line["reason"]] for line in report["scenes"] if "reason" in line}
    return [{**one, "why": one["why"] or reasons.get(one["scene"], [])} for one in scenes]


def rows_of(scenes: list[dict[str, Any]], left: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The table: a row for each of the first scenes, and for those left alone, which stand before what is complete."""
    rows = [
        {
            "scene": one["scene"],
            "state": one["state"],
            "failed blocks": one["failed"],
            "reason": _reason(one["why"]),
            "MPix/s": None if (speed := one["megapixels_per_second"]) is None else round(speed, 2),
            "folder": one["out"] or "",
        }
        for one in scenes[:ROWS]
    ]
    whole = next((at for at, row in enumerate(rows) if row["state"].startswith("complete")), len(rows))
    nothing = {"failed blocks": None, "MPix/s": None, "folder": ""}
    alone = [{"scene": one["scene"], "state": one["what"], "reason": masked(one["why"]), **nothing} for one in left]
    return [*rows[:whole], *alone, *rows[whole:]][:ROWS]


def _reason(why: list[str]) -> str:
    more = f" And {len(why) - 1} more." if len(why) > 1 else ""
    return masked(why[0]) + more if why else ""


def pictures_of(scenes: list[dict[str, Any]]) -> str:
    """The quicklooks of the first scenes that this run changed and that have one, as Markdown; "" without any."""
    changed = (one for one in scenes if one["quicklook"] and not one["state"].endswith("already"))
    files = ((one, Path(one["quicklook"])) for one in changed)
    said, length = [], 0
    for one, file in islice(((one, file) for one, file in files if file.is_file()), PICTURES):
        picture = small(file)
        if picture and (length := length + len(picture)) <= MOST:
            address = f"data:image/jpeg;base64,{b64encode(picture).decode()}"
            said.append(f"**{_plain(one['scene'])}**: {one['state']}\n\n![{_plain(one['scene'])}]({address})\n")
    return "\n".join(said)


def words_of(report: Mapping[str, Any], out: Path) -> str:
    """The report in short, as Markdown, with where the whole one is."""
    problems = "\n".join(f"- {masked(problem)}" for problem in report["problems"][:ROWS]) or "None."
    left = "\n".join(f"- {one['scene']}: {one['what']}. {masked(one['why'])}" for one in report.get("left", ())[:ROWS])
    alone = f"\n## Left alone\n\n{left}\n" if left else ""
    where = f"The whole report, with areas and costs: `{out.resolve() / HTML}`"
    return f"# {len(report['scenes'])} scenes\n\n{where}\n\n## Problems\n\n{problems}\n{alone}"


def _plain(name: str) -> str:
    """A name in which Markdown sees no picture, link or end of one."""
    return "".join("_" if letter in "[]()<>!`*\\\n\r" else letter for letter in name)
