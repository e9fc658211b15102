"""What a job came to: a line of a table for each scene, and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from flows.archive import Selection
from pipeline.folder import LEDGER
from pipeline.run import SceneRun
from pipeline.settings import Job

CARRIED_OVER = "carried over"  # blocks are left to the next run
_TOLD = (
    *("classes", "predicted_pixels", "slide", "memory", "numeric_class", "identity_digest"),
    *("blocks_seconds", "device_waited", "devices", "pixels_this_run"),
)  # what a scene's line has of its report
SAID = 3  # problems that one sentence has room for
LONG = 40  # letters: a CRS that needs more has no code, and is in the report


@dataclass(frozen=True, slots=True)
class JobReport:
    """What came of a job: a line for each scene, a sentence for each problem.

    `carried_over` scenes are left to the next run, begun or not; `left` names what was not begun, and why.
    """

    scenes: tuple[dict[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    carried_over: int = 0
    left: tuple[dict[str, str], ...] = ()

    @classmethod
    def aside(cls, found: Selection, job: Job, wrong: Sequence[str]) -> Self:
        """What is to be told before any scene is done; `wrong` is what could not be listed."""
        shortage = found.shortage(job)
        problems = (*wrong, *([shortage] if shortage else ()))
        return cls((), problems, found.carried_over, left=tuple(one.as_dict() for one in found.quarantined))

    def plus(self, scenes: Sequence[dict[str, Any]], problems: Sequence[str], carried_over: int) -> Self:
        """The same with what came of the scenes."""
        return replace(
            self,
            scenes=(*self.scenes, *scenes),
            problems=(*self.problems, *problems),
            carried_over=self.carried_over + carried_over,
        )

    @property
    def exit_code(self) -> int:
        """3 where anything is wrong, else 0."""
        return 3 if self.problems else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()} | {
            "exit_code": self.exit_code
        }


def in_short(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = f" And {len(problems) - SAID} more." if len(problems) > SAID else ""
    return " ".join(problems[:SAID]) + more


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
        "out": f"{run.job.mirror}/{run.plan.scene.name}" if run.job.mirror else str(run.folder.final),
        **({"workshop": str(run.folder.final)} if run.job.mirror else {}),
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
