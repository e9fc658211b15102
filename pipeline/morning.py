"""The morning's report as plain numbers: what was done, what was not and why, worst first; areas, their change, cost.

It is made of a night's lines, one for each scene, as `flows.tasks` has them, and of what earlier nights made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.history import Result
from pipeline.settings import statuses

FORMAT = 1  # of report.json
POINTS, SPREADS = 0.10, 3.0  # what a class's share may move by
RULE = (
    f"A class jumps where its share of a scene's classified pixels is more than {100 * POINTS:.0f} points, and more "
    f"than {SPREADS:.0f} times their median deviation, away from the median of the scene's earlier results (up to 10)."
)
_STATUSES = {(int(value), name) for kind in ("uint8", "uint16") for value, name in statuses(kind).named().items()}
_RANKS = {
    "refused": 0,
    "incomplete": 1,
    "holes": 2,
    "jump": 3,
    "carried over": 4,
    "complete": 5,
    "holes already": 6,
    "complete already": 7,
}


@dataclass(frozen=True, slots=True)
class Night:
    """A run of a job: when it began and ended (seconds since 1970), and what an hour of its machines costs."""

    began: float
    ended: float
    price_per_hour: float | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.began)


def when(seconds: float) -> str:
    """An instant, UTC, ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def result_of(line: Mapping[str, Any], night: Night) -> Result | None:
    """What a scene's line says of its mask; None where it has none, or only a part of one."""
    report = line.get("report")
    if not report or not line["state"].startswith(("complete", "holes")):
        return None
    classes = {
        one["name"]: (one["pixels"], one["area"])
        for one in report["classes"]
        if (one["value"], one["name"]) not in _STATUSES
    }
    return Result(when(night.ended), report["identity_digest"], report["model"], report["predicted_pixels"], classes)


def jumps(now: Result, earlier: Sequence[Result]) -> list[dict[str, Any]]:
    """The classes whose share is far from what the scene's earlier results have, by `RULE`."""
    found = []
    for name, share in now.shares.items():
        had = [one.shares[name] for one in earlier if name in one.shares]
        if not had:
            continue
        middle = median(had)
        spread = median(abs(one - middle) for one in had)
        if abs(share - middle) > max(POINTS, SPREADS * spread):
            found.append({"class": name, "share": share, "median": middle, "results": len(had)})
    return found


def facts(
    report: Mapping[str, Any],
    night: Night,
    histories: Mapping[str, Sequence[Result]],
    nights: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that report.json says: areas in m², shares from 0 to 1, seconds.

    Parameters
    ----------
    report
        The mapping of a JobReport: "scenes", "problems", "exit_code", and perhaps "left": {"scene", "what", "why"} of
        each scene that the night did not begin.
    night
        When it was, and its price.
    histories
        The results of each scene before this one, by name, the oldest first.
    nights
        What `summary` said of earlier nights, the oldest first.

    """
    lines = list(report["scenes"])
    scenes = [_scene(line, report["problems"], night, histories.get(line["scene"], ())) for line in lines]
    scenes.sort(key=lambda one: (_RANKS.get(one["rank"], 0), -one["failed"], -one["pixels"], one["scene"]))
    done = [line for line in lines if not line["state"].endswith("already")]
    speed = _speed(done, night)
    said = {
        "format": FORMAT,
        "began": when(night.began),
        "ended": when(night.ended),
        "seconds": night.seconds,
        "exit_code": report["exit_code"],
        "counts": _counts(scenes, report),
        "problems": list(report["problems"]),
        "left": list(report.get("left", ())),
        "scenes": scenes,
        "speed": speed,
        "cost": _cost(done, night),
        "rules": {"jump": RULE},
    }
    totals = _totals(done, night)
    last = next((one for one in reversed(nights) if one.get("predicted")), None)
    return said | {"classes": _compared(totals, last), "last_night": last and last.get("began")}


def summary(said: Mapping[str, Any]) -> dict[str, Any]:
    """What later nights are told of this one."""
    classes = {one["class"]: [one["pixels"], one["area"]] for one in said["classes"] if one["pixels"] is not None}
    kept = {key: said[key] for key in ("began", "ended", "exit_code", "counts")}
    predicted = sum(one["predicted"] for one in said["scenes"] if not one["state"].endswith("already"))
    return kept | {"predicted": predicted, "classes": classes, "cost": said["cost"]["total"]}


def _counts(scenes: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> dict[str, int]:
    states = [one["state"] for one in scenes]
    return {
        "scenes": len(states),
        "complete": states.count("complete"),
        "already": sum(one.endswith("already") for one in states),
        "holes": sum(one.startswith("holes") for one in states),
        "unfinished": states.count("incomplete"),
        "refused": states.count("refused"),
        "jumped": sum(bool(one["jumps"]) for one in scenes),
        "left": len(report.get("left", ())),
    }


def _scene(line: Mapping[str, Any], problems: Sequence[str], night: Night, earlier: Sequence[Result]) -> dict[str, Any]:
    """One scene's part of the report."""
    report, state = line.get("report") or {}, line["state"]
    now = result_of(line, night)
    other = [one for one in earlier if now and not one.same(now)]
    jumped = jumps(now, other) if now else []
    seconds = report.get("blocks_seconds")
    return {
        "scene": line["scene"],
        "state": state,
        "rank": "jump" if jumped and state == "complete" else state,
        "out": line["out"],
        "quicklook": str(Path(line.get("workshop") or line["out"]) / "quicklook.png") if line["out"] else None,
        "why": [one for one in problems if one.startswith(f"{line['scene']} ")][:20],
        "jumps": jumped,
        "failed": line.get("failed", 0),
        "pixels": line.get("pixels", 0),
        "predicted": now.predicted if now else 0,
        "seconds": line.get("seconds"),
        "megapixels_per_second": report["pixels_this_run"] / 1e6 / seconds if seconds else None,
        "other_model": bool(now and other and other[-1].model != now.model),
        "classes": _classes(now, other) if now else [],
    }


def _classes(now: Result, earlier: Sequence[Result]) -> list[dict[str, Any]]:
    """Pixels, area and share of each class, what they were in the last other result, and its shares so far."""
    last, said = (earlier[-1] if earlier else None), []
    for name, (pixels, area) in now.classes.items():
        had = last.classes.get(name) if last else None
        said.append(
            {
                "class": name,
                "pixels": pixels,
                "area": area,
                "share": now.shares.get(name),
                "area_before": had[1] if had else None,
                "share_before": last.shares.get(name) if last else None,
                "history": [one.shares[name] for one in [*earlier, now] if name in one.shares],
            }
        )
    return said


def _totals(done: Sequence[Mapping[str, Any]], night: Night) -> Result:
    """All of the night's results as one."""
    classes: dict[str, tuple[int, float | None]] = {}
    predicted = 0
    for now in filter(None, (result_of(line, night) for line in done)):
        predicted += now.predicted
        for name, (pixels, area) in now.classes.items():
            had = classes.get(name, (0, 0.0))
            classes[name] = had[0] + pixels, None if area is None or had[1] is None else had[1] + area
    return Result(when(night.ended), "", "", predicted, classes)


def _compared(totals: Result, last: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The night's classes beside those of the last night that did something."""
    had: Mapping[str, Any] = last["classes"] if last else {}
    rows = []
    for name in dict.fromkeys([*totals.classes, *had]):
        pixels, area = totals.classes.get(name, (None, None))
        before = had.get(name)
        rows.append(
            {
                "class": name,
                "pixels": pixels,
                "area": area,
                "share": totals.shares.get(name),
                "area_before": before[1] if before else None,
                "share_before": before[0] / last["predicted"] if before and last else None,
            }
        )
    return rows


def _speed(done: Sequence[Mapping[str, Any]], night: Night) -> dict[str, Any]:
    """Megapixels of this run by the night's clock; the part of the devices' time between first and last block idle."""
    ran = [line["report"] for line in done if line.get("report") and line["report"].get("blocks_seconds")]
    pixels = sum(one["pixels_this_run"] for one in ran)
    held = sum(one["devices"] * one["blocks_seconds"] for one in ran)
    return {
        "megapixels": pixels / 1e6,
        "megapixels_per_second": pixels / 1e6 / night.seconds if night.seconds else None,
        "device_seconds": held,
        "device_idle_share": sum(one["device_waited"] for one in ran) / held if held else None,
    }


def _cost(done: Sequence[Mapping[str, Any]], night: Night) -> dict[str, Any]:
    """The night's price, by what it made: maps by the square kilometre, slides by the piece.

    Where a night did both, each pixel costs the same.
    """
    said: dict[str, Any] = dict.fromkeys(("total", "per_1000_km2", "per_slide"))
    said = {"price_per_hour": night.price_per_hour, **said}
    if night.price_per_hour is None:
        return said
    total = said["total"] = night.price_per_hour * night.seconds / 3600
    ran = [line for line in done if line.get("report") and line["report"].get("pixels_this_run")]
    pixels = sum(line["report"]["pixels_this_run"] for line in ran)
    slides = [line for line in ran if line["report"]["slide"]]
    maps = [(line["report"], area) for line in ran if not line["report"]["slide"] and (area := _pixel_area(line))]
    if slides:
        part = sum(line["report"]["pixels_this_run"] for line in slides) / pixels
        said["per_slide"] = total * part / len(slides)
    if maps:
        mapped = sum(one["pixels_this_run"] for one, _ in maps)
        said["per_1000_km2"] = total * mapped / pixels / sum(one["pixels_this_run"] * area for one, area in maps) * 1e9
    return said


def _pixel_area(line: Mapping[str, Any]) -> float | None:
    """The mean area of a scene's pixels in m²; None where that is not known."""
    counted = [one for one in line["report"]["classes"] if one["area"] is not None]
    pixels = sum(one["pixels"] for one in counted)
    return sum(one["area"] for one in counted) / pixels if pixels else None
