"""How long a block may take before its process is thought to hang."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from pipeline.store.record import Record


@dataclass(slots=True)
class Patience:
    """How long a block may take: ten times the median of those before it, and at least two minutes."""

    expected: float = 0.0  # seconds for a block, as planned
    least: float = 120.0
    times: float = 10.0
    _spent: deque[float] = field(default_factory=lambda: deque(maxlen=101))

    def heard(self, record: Record) -> None:
        """A block has taken its time."""
        self._spent.append(sum(record.seconds.values()))

    @property
    def seconds(self) -> float:
        """What the next may take."""
        return max(self.least, self.times * (median(self._spent) if self._spent else self.expected))
