"""What a scene's run came to, in a line of a table and in sentences."""

from __future__ import annotations

from typing import Any

from pipeline.folder import LEDGER
from pipeline.run import SceneRun

CARRIED_OVER = "carried over"  # blocks are left to the next run
_TOLD = (
    *("classes", "predicted_pixels", "slide", "memory", "numeric_class", "identity_digest"),
    *("blocks_seconds", "device_waited", "devices", "pixels_this_run"),
)  # what a scene's line has of its report
LONG = 40  # letters: a CRS that needs more has no code, and is in the report


def holes_of(run: SceneRun, report: dict[str, Any]) -> list[str]:
    """A sentence for each hole."""
    name = run.plan.scene.name
    holes = [_hole(name, failure) for failure in report["failures"]]
    if unnamed := report["blocks"]["failed"] - len(holes):
        holes.append(f"{name} has {unnamed} more holes; {run.folder.final / LEDGER} names them all.")
    return holes


def line(run: SceneRun, report: dict[str, Any], already: bool) -> dict[str, Any]:
    """A scene in one line of a table."""
    failed = report["blocks"]["failed"]
    state = "holes" if failed else "complete" if report["complete"] else "incomplete"
    if not report["complete"] and run.job.is_over:
        state = CARRIED_OVER
    return {
        "scene": run.plan.scene.name,
        "state": f"{state} already" if already else state,
        "pixels": report["pixels"],
        "seconds": report["seconds"],
        "device": report["device"],
        "margin": f"{report['margin']['pixels']} {report['margin']['kind']}",
        "failed": failed,
        "out": str(run.folder.final),
        "report": {key: report[key] for key in _TOLD} | {"model": report["model"]["digest"]},
    }


def _hole(scene: str, failure: dict[str, Any]) -> str:
    rows, cols = failure["rows"], failure["cols"]
    return (
        f"{scene} has a hole: block {failure['block']}, rows {rows[0]} to {rows[1]}, columns {cols[0]} to {cols[1]}"
        f"{_place(failure)}, failed {failure['attempts']} times: {failure['reason']}"
    )


def _place(failure: dict[str, Any]) -> str:
    """Where a hole lies on the map or the slide; nothing where the scene does not say."""
    if failure["bounds"] is None:
        return ""
    left, bottom, right, top = (f"{number:.10g}" for number in failure["bounds"])
    crs = failure["crs"] or "no CRS"
    return f" (x {left} to {right}, y {bottom} to {top}, {crs if len(crs) < LONG else 'in the scene’s CRS'})"
