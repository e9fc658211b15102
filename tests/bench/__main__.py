"""`python -m tests.bench PART…`, all parts where none is named; PART=NETWORK for one network alone.

rate     maskmill and the bare network on 100 megapixels; =FILE.onnx for another network
memory   peaks of worker and coordinator at 30 and at 300 megapixels
resume   from the command to new blocks, after a kill
tasks    200 000 blocks that take no time, through a real scheduler
ledger   ten million blocks through the ledger alone
peers    maskmill beside what people use instead; networks earth-water, article, ukis (with --ukis FILE)

copy     reading and writing alone: a network of one node beside GDAL's COG driver
workers  two workers of one thread against one
report   BENCHMARKS.md and its plot, from what was measured before

The first five print lines. The next three write .bench/results/PART-NETWORK.json, and go on where they were stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from models import zoo
from tests.bench import figures, others, report, rounds, tasks
from tests.bench.asked import Asked

FIGURES = {
    "rate": figures.rate,
    "memory": figures.memory,
    "resume": figures.resume,
    "tasks": tasks.tasks,
    "ledger": tasks.ledger,
}
MEASURED = {
    "peers": (rounds.peers, tuple(rounds.OF)),
    "copy": (others.copy, ("threshold",)),
    "workers": (others.workers, tuple(others.WORKED)),
}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART[=NETWORK]")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer runs")
    parser.add_argument("--megapixels", type=float, help="the scene's size, else by network")
    parser.add_argument("--peers", default="", metavar="A,B", help="these peers alone")
    parser.add_argument("--ukis", type=Path, metavar="FILE.onnx", help="a network of ukis-csmask, its JSON beside it")
    given = parser.parse_args(words)
    chosen = tuple(filter(None, given.peers.split(",")))
    command = shlex.join(["python", "-m", "tests.bench", *(Path(word).name if "/" in word else word for word in words)])
    asked = Asked(given.rounds, given.megapixels, chosen, given.ukis, command)
    for part in given.parts or [*FIGURES, *MEASURED, "report"]:
        name, _, network = part.partition("=")
        if name in FIGURES:
            with tempfile.TemporaryDirectory() as folder:
                FIGURES[name](Path(folder), network or str(zoo.path("earth-water")))
        elif name in MEASURED:
            measure, networks = MEASURED[name]
            for one in [network] if network else [each for each in networks if each != "ukis" or asked.ukis]:
                measure(asked, one)
        elif name == "report":
            report.write()
        else:
            parser.error(f"there is no part {name}; there are {', '.join([*FIGURES, *MEASURED, 'report'])}")


if __name__ == "__main__":
    main(sys.argv[1:])
