"""The morning's report as files: DIR/report.html and DIR/report.json, of the same facts; history is kept beside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.history import add_night, nights_of, remember, results_of
from pipeline.morning import Night, facts, result_of, summary
from pipeline.page import Number, Raw, figure, listed, page, section, small, spark, table, tagged
from pipeline.page import facts as facts_html
from pipeline.store.objects import put_whole

HTML, JSON = "report.html", "report.json"
PICTURES, ROWS, SENTENCES = 24, 300, 300  # that the page shows; report.json has all but the pictures
_STATES = {
    "refused": "refused",
    "incomplete": "not finished",
    "jump": "complete, but a class jumped",
    "complete already": "was complete already",
    "holes already": "has holes still",
}


def write_morning(out: Path, report: Mapping[str, Any], night: Night) -> dict[str, Any]:
    """Write both files into `out`, whole, and remember the night; returns what report.json says.

    `report` is the mapping of a JobReport. Raises RoomError where the disk is full, SettingsError for other refusals
    and for a history that a later version wrote.
    """
    nights = nights_of(out)
    histories = {line["scene"]: results_of(out, line["scene"]) for line in report["scenes"] if line.get("report")}
    said = facts(report, night, histories, nights)
    put_whole(out / JSON, json.dumps(said, indent=1).encode(), root=out)
    put_whole(out / HTML, html_of(said), root=out)
    for line in report["scenes"]:
        now = result_of(line, night)
        if now and not (histories[line["scene"]] and histories[line["scene"]][-1].same(now)):
            remember(out, line["scene"], [*histories[line["scene"]], now])
    add_night(out, nights, summary(said))
    return said


def html_of(said: Mapping[str, Any]) -> bytes:
    """The page that shows what report.json says, with the pictures that lie in the scenes' folders."""
    scenes = said["scenes"]
    shown = scenes[:ROWS]
    more = f"And {len(scenes) - ROWS} more, in report.json." if len(scenes) > ROWS else ""
    left = [f"{one['scene']}: {one['what']}. {one['why']}" for one in said["left"]]
    began = said["began"][:16].replace("T", " ")
    return page(
        f"maskmill, {began}",
        tagged("h1", f"Night of {began} UTC"),
        tagged("p", _verdict(said), kind="good" if said["exit_code"] == 0 else "bad"),
        facts_html(_first(said)),
        section("What went wrong", _some(said["problems"])),
        section("Not done, and why", _some(left)),
        section(
            "Scenes, worst first",
            table(("scene", "state", "Mpx", "Mpx/s", "failed", "why"), _rows(shown)),
            tagged("p", more, kind="soft") if more else Raw(""),
        ),
        section("Area by class, all scenes of this night", _class_table(said)),
        section(
            "Area by class, scene by scene", _scene_classes(shown), tagged("p", said["rules"]["jump"], kind="soft")
        ),
        section("Pictures, worst and largest first", *_pictures(scenes)),
    )


def _verdict(said: Mapping[str, Any]) -> str:
    counts = said["counts"]
    words = {
        "complete": "complete",
        "already": "complete before",
        "holes": "with holes",
        "unfinished": "not finished",
        "refused": "refused",
        "left": "not begun",
        "jumped": "with a class that jumped",
    }
    parts = [f"{counts[key]} {word}" for key, word in words.items() if counts[key]]
    return f"{counts['scenes']} scenes: {', '.join(parts) or 'nothing was to be done'}."


def _first(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    speed, cost = said["speed"], said["cost"]
    found = [
        ("took", _duration(said["seconds"])),
        ("megapixels", f"{speed['megapixels']:,.1f}"),
        ("megapixels per second", _told(speed["megapixels_per_second"])),
        ("of the devices' time idle", _percent(speed["device_idle_share"])),
        ("cost", _money(cost["total"])),
        ("cost per 1000 km²", _money(cost["per_1000_km2"])),
        ("cost per slide", _money(cost["per_slide"])),
    ]
    return [(what, much) for what, much in found if much != "–"]


def _some(lines: Sequence[str]) -> Raw:
    more = [f"And {len(lines) - SENTENCES} more, in report.json."] if len(lines) > SENTENCES else []
    return listed([*lines[:SENTENCES], *more])


def _rows(scenes: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [
        [
            one["scene"],
            _STATES.get(one["rank"], one["rank"]),
            Number(f"{one['pixels'] / 1e6:,.1f}"),
            Number(_told(one["megapixels_per_second"])),
            Number(f"{one['failed']:,}"),
            " ".join([*one["why"][:3], *map(_jump, one["jumps"])]),
        ]
        for one in scenes
    ]


def _jump(jump: Mapping[str, Any]) -> str:
    return (
        f"{jump['class']} is {_percent(jump['share'])} where the median of {jump['results']} earlier "
        f"{'result' if jump['results'] == 1 else 'results'} is {_percent(jump['median'])}."
    )


def _class_table(said: Mapping[str, Any]) -> Raw:
    rows = [[one["class"], *_changed(one)] for one in said["classes"]]
    note = f"The last night that did something began {said['last_night']}." if said["last_night"] else ""
    heads = ("class", "area", "share", "share, last night", "change, points", "change of area")
    return Raw(table(heads, rows) + (tagged("p", note, kind="soft") if rows else ""))


def _scene_classes(scenes: Iterable[Mapping[str, Any]]) -> Raw:
    rows = [
        [
            one["scene"] + (" (another model than before)" if one["other_model"] else ""),
            each["class"],
            *_changed(each),
            spark(each["history"]),
        ]
        for one in scenes
        for each in one["classes"]
    ]
    heads = ("scene", "class", "area", "share", "share before", "change, points", "change of area", "its results")
    return table(heads, rows[: 4 * ROWS])


def _changed(one: Mapping[str, Any]) -> list[str]:
    """Area, share, share before, and what changed."""
    share, before = one["share"], one["share_before"]
    area, had = one["area"], one["area_before"]
    return [
        Number(_area(area)),
        Number(_percent(share)),
        Number(_percent(before)),
        Number("–" if share is None or before is None else f"{100 * (share - before):+.2f}"),
        Number("–" if area is None or had is None else _area(area - had, sign="+")),
    ]


def _pictures(scenes: Iterable[Mapping[str, Any]]) -> list[Raw]:
    """The quicklooks of the first scenes that this night changed and that have one."""
    chosen: list[tuple[str, Path]] = []
    for one in scenes:
        if one["quicklook"] and not one["state"].endswith("already") and len(chosen) < PICTURES:
            path = Path(one["quicklook"])
            if path.is_file():
                chosen.append((f"{one['scene']}: {_STATES.get(one['rank'], one['rank'])}", path))
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(small, (path for _, path in chosen)))
    return [figure(picture, words) for (words, _), picture in zip(chosen, pictures, strict=True) if picture]


def _told(number: float | None) -> str:
    return "–" if number is None else f"{number:,.2f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


def _money(amount: float | None) -> str:
    return "–" if amount is None else f"{amount:,.4g}"


def _area(square_metres: float | None, sign: str = "") -> str:
    """An area in the unit that suits it; a slide's is in mm²."""
    if square_metres is None:
        return "–"
    units = (("km²", 1e6), ("ha", 1e4), ("m²", 1.0), ("mm²", 1e-6))
    unit, size = next((one for one in units if abs(square_metres) >= one[1]), units[-1])
    return f"{square_metres / size:{sign},.4g} {unit}" if square_metres else "0"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
