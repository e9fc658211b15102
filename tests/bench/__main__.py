"""`python -m tests.bench PART…`, all parts where none is named; PART=NETWORK for one network alone.

rate     maskmill and the bare network on 100 megapixels; =FILE.onnx for another network
memory   peaks of worker and coordinator at 30 and at 300 megapixels
resume   from the command to new blocks, after a kill
peers    maskmill beside what people use instead; networks earth-water, article, ukis (with --ukis FILE)

The first three print a line. The others write .bench/results/PART-NETWORK.json, and go on where they were stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from models import zoo
from tests.bench import figures, rounds
from tests.bench.asked import Asked

FIGURES = {"rate": figures.rate, "memory": figures.memory, "resume": figures.resume}
MEASURED = {"peers": rounds.peers}


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
    for part in given.parts or [*FIGURES, *MEASURED]:
        name, _, network = part.partition("=")
        if name in FIGURES:
            with tempfile.TemporaryDirectory() as folder:
                FIGURES[name](Path(folder), network or str(zoo.path("earth-water")))
        elif name in MEASURED:
            ours = [one for one in rounds.OF if one != "ukis" or asked.ukis]
            for one in [network] if network else ours:
                MEASURED[name](asked, one)
        else:
            parser.error(f"there is no part {name}; there are {', '.join([*FIGURES, *MEASURED])}")


if __name__ == "__main__":
    main(sys.argv[1:])
