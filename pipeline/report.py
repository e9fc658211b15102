"""What a run made and cost, as plain numbers: for report.json, the flow's artifacts and the morning's reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.raster import ground
from pipeline.settings import statuses
from pipeline.settle import Settled
from pipeline.store.fold import Fold
from pipeline.store.record import State

NAMED = 100  # failures that a report names; the ledger has them all


@dataclass(frozen=True, slots=True)
class Blocks:
    """Seconds from the first block of this run to its last, and those in which devices waited, of all together.

    `devices` are the processes that did blocks, `pixels` what they did in this run.
    """

    seconds: float
    device_waited: float
    devices: int = 1
    pixels: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """The plan and the ledger of one scene, the seconds since the run opened it, and the coordinator's peak.

    `publishing` is what the publishing took, where this run published: seconds "by_stage" from the last block on, and
    "by_makers", of all workers together, of what is made as blocks are done.
    """

    settled: Settled
    fold: Fold
    seconds: float
    coordinator_peak: int
    blocks: Blocks | None = None  # where this run did any
    publishing: dict[str, dict[str, float]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Sizes are bytes, areas are square metres (map units of a projected CRS)."""
        plan, fold = self.settled.plan, self.fold
        tally = fold.tally()
        pixels = plan.grid.height * plan.grid.width
        predicted, outside = self._predicted(), int(statuses(plan.network.card.mask_dtype).outside)
        return {
            "scene": plan.scene.name,
            "slide": bool(plan.scene.levels),
            "complete": not tally[State.PENDING],
            "blocks": {state.name.lower(): count for state, count in tally.items()},
            "pixels": pixels,
            "area": plan.area.as_dict() if plan.area else None,
            "megapixels_per_second": (pixels - fold.counts.get(outside, 0)) / 1e6 / self.seconds
            if self.seconds > 0
            else None,
            "seconds": self.seconds,
            "seconds_by_stage": fold.seconds,
            "blocks_seconds": self.blocks and self.blocks.seconds,
            "device_waited": self.blocks and self.blocks.device_waited,
            "devices": self.blocks and self.blocks.devices,
            "pixels_this_run": self.blocks.pixels if self.blocks else 0,
            "publishing": self.publishing,
            "bytes_read": fold.bytes_read,
            "bytes_written": fold.bytes_written,
            "classes": self._classes(),
            "predicted_pixels": predicted,
            **self._ran(tally[State.DONE]),
            "notes": [*self.settled.notes, *self._less()],
            "margin": {
                "pixels": plan.grid.margin,
                "kind": plan.margin.kind.value,
                "why": plan.margin.why,
                "difference": plan.margin.difference,
            },
            "disagreement": self._disagreement(predicted),
            "grid": {"window": plan.grid.window, "core": plan.grid.core, "block": plan.grid.block},
            "tuned": [pace.as_dict() for pace in self.settled.paces],
            "zoom": float(plan.grid.zoom),
            "identity": plan.identity,
            "identity_digest": plan.digest,
            "model": {"name": plan.network.card.name, "digest": plan.network.digest},
            "memory": self._memory(),
            "failures": self.failures(),
        }

    def _ran(self, done: int) -> dict[str, Any]:
        """What the network ran on; `numeric_classes` says by which kind of machine how many blocks were done."""
        choices = self.settled.plan.choices
        return {
            "device": choices.device,
            "provider": self.settled.probe.provider,
            "numeric_class": choices.numeric_class,
            "numeric_classes": self.fold.ran or {choices.numeric_class: done},
            "agreement_with_cpu": choices.agreement,
            "batch": self.settled.plan.recipe.batch,
        }

    def _memory(self) -> dict[str, Any]:
        """What was planned and held in bytes; "held_less": blocks whose windows or batches had to be smaller."""
        held = self.fold.held.items()
        return {
            "planned": self.settled.budget.as_dict(),
            "worker_peak": self.fold.peak,
            "coordinator_peak": self.coordinator_peak,
            "held_less": [{"core": core, "batch": batch, "blocks": blocks} for (core, batch), blocks in held],
        }

    def _less(self) -> list[str]:
        """A sentence for each size of window or batch that memory made smaller."""
        plan = self.settled.plan
        return [
            f"Memory did not hold windows of {plan.grid.window} px, {plan.recipe.batch} at once: {blocks} of "
            f"{len(plan.grid)} blocks were done with windows of {core + 2 * plan.grid.margin} px, {batch} at once."
            for (core, batch), blocks in self.fold.held.items()
        ]

    def failures(self) -> list[dict[str, Any]]:
        """The holes: which block, which pixels, where in the scene's CRS, why."""
        plan = self.settled.plan
        grid = plan.grid
        told = []
        for block, reason in sorted(self.fold.reasons.items())[:NAMED]:
            owned = grid.owned(block)
            told.append(
                {
                    "block": block,
                    "rows": [owned.top, owned.bottom],
                    "cols": [owned.left, owned.right],
                    "bounds": ground.bounds(plan.scene.transform, owned),
                    "crs": "micrometres" if plan.scene.levels else plan.georef.code or plan.scene.crs,
                    "attempts": self.fold.attempts(block),
                    "reason": reason,
                }
            )
        return told

    def _predicted(self) -> int:
        """How many pixels the network has told of."""
        plan, counts = self.settled.plan, self.fold.counts
        pending = sum(plan.grid.owned(int(block)).area for block in self.fold.of(State.PENDING))
        without = sum(counts.get(value, 0) for value in statuses(plan.network.card.mask_dtype).named())
        return plan.grid.scene.area - pending - without

    def _classes(self) -> list[dict[str, Any]]:
        """Pixels and area of every class, and of every status that occurs.

        Where the mask has a band for each class, a pixel counts for each that it has; for the first where it has none.
        """
        plan, counts = self.settled.plan, self.fold.counts
        pixel_area, areas = plan.scene.pixel_area(), self.fold.area
        card = plan.network.card
        named = {one.value: one.name for one in card.legend}
        named |= {value: name for value, name in statuses(card.mask_dtype).named().items() if counts.get(value)}
        return [
            {
                "value": value,
                "name": name,
                "pixels": counts.get(value, 0),
                "area": areas.get(value, 0.0) if areas else pixel_area and counts.get(value, 0) * pixel_area,
            }
            for value, name in named.items()
        ]

    def _disagreement(self, predicted: int) -> dict[str, float] | None:
        """How far overlapping windows were apart, in probability or as values; None where none overlapped."""
        if self.settled.plan.margin.kind.value != "blend":
            return None
        total, greatest = self.fold.spread
        return {"mean": total / predicted if predicted else 0.0, "greatest": greatest}
