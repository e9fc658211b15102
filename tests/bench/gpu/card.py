"""How busy the GPU is while something runs: utilisation, power, clocks and memory, five times a second."""

from __future__ import annotations

import shutil
import subprocess
import threading
from statistics import mean

FIELDS = ("utilization.gpu", "power.draw", "clocks.sm", "clocks.mem", "memory.used", "temperature.gpu")
EVERY = 200  # ms


class Card:
    """Watches the first GPU for as long as a `with` lasts; `said` is empty where there is no nvidia-smi."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, float]] = {}
        self._rows: list[list[float]] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Card:
        if shutil.which("nvidia-smi"):
            query = [f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", f"-lms={EVERY}", "--id=0"]
            self._process = subprocess.Popen(
                ["nvidia-smi", *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        for name, values in zip(FIELDS, zip(*self._rows, strict=True), strict=False):
            self.said[name] = {"mean": mean(values), "least": min(values), "most": max(values)}

    def _read(self) -> None:
        for line in self._process.stdout or ():
            try:
                row = [float(word) for word in line.split(",")]
            except ValueError:  # a field that this card does not have
                continue
            if len(row) == len(FIELDS):
                self._rows.append(row)

    @property
    def busy(self) -> float | None:
        """The mean percentage of time in which a kernel ran."""
        return self.said["utilization.gpu"]["mean"] if self.said else None
