"""The part `peers`: maskmill beside what people use instead, on the same scene, weights and threads, by turns."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import rasterio
import zarr

from tests.bench.asked import Asked
from tests.bench.command import WORKERS, plan_of, shown
from tests.bench.envs import HOME, OWN, python_of
from tests.bench.networks import Network, network_of
from tests.bench.results import Book
from tests.bench.watch import PeerError, watched

SCRIPTS = Path(__file__).parent / "peers"
LIMIT = 3600.0  # s for one peer's one run
CLOSE = 1e-3  # how far the torch network's logits may be from ONNX Runtime's


@dataclass(frozen=True)
class Peer:
    """A script and the environment that it runs in."""

    script: str
    environment: str
    torch: bool = False


PEERS = {
    "bare": Peer("bare.py", OWN),
    "maskmill": Peer("maskmill.py", OWN),
    "monai-session": Peer("monai_session.py", "monai"),
    "monai-torch": Peer("monai_torch.py", "monai", torch=True),
    "loop": Peer("loop.py", "plain"),
    "map-overlap": Peer("map_overlap.py", "plain"),
    "torchgeo": Peer("torchgeo_sampler.py", "torchvision", torch=True),
    "tiatoolbox": Peer("tiatoolbox_engine.py", "tiatoolbox", torch=True),
    "toolbelt": Peer("toolbelt_tiles.py", "torchvision", torch=True),
}
EVERY = tuple(PEERS)
OF = {  # who takes part, how many megapixels, and the side of the crop that one pass is made of
    "earth-water": (EVERY, 25.0, 2048),
    "article": (EVERY[:6], 3.0, 1024),
    "ukis": (EVERY[:3], 2.0, 0),
}


def peers(asked: Asked, name: str) -> None:
    """Measure, or go on measuring, all peers with a network; prints a line for each run."""
    chosen, megapixels, crop_side = OF[name]
    chosen = tuple(one for one in chosen if one in (asked.peers or chosen))
    folder = HOME / "work" / f"peers-{name}"
    network = network_of(name, folder, asked.ukis)
    side = round(math.sqrt((asked.megapixels or megapixels) * 1e6))
    scene = scene_of(network, folder, side)
    task = task_of(network, scene, side, crop_side)
    kept = {key: task[key] for key in ("window", "core", "margin", "windows", "threads", "batch", "crop", "kind")}
    book = Book("peers", name, {"rows": side, "cols": side, "peers": chosen, **kept}, asked.command)
    pythons = {one: python_of(PEERS[one].environment) for one in chosen}
    before(book, folder, task, chosen, pythons)
    for number in range(len(book.said["rounds"]), asked.rounds):
        turned = chosen[number % len(chosen) :] + chosen[: number % len(chosen)]  # nobody is always the first
        heed_others(book)
        book.add(one_round(book, folder, task, turned, pythons))


def scene_of(network: Network, folder: Path, side: int) -> Path:
    """A square scene of so many pixels a side, kept for the next time."""
    scene, part = folder / f"{network.file.stem}-{side}.tif", folder / "part.tif"
    if not scene.exists():
        network.scene(part, side, side)
        part.replace(scene)
    return scene


def task_of(network: Network, scene: Path, side: int, crop_side: int) -> dict:
    """What all peers are told: maskmill's own plan, the network's numbers, and where one pass is made."""
    plan = plan_of(scene, *network.flags, "--workers", str(WORKERS))
    facts = shown(str(network.file))
    stride, margin = facts["stride"], plan["margin"]
    exact = plan["margin_kind"] == "exact"
    crop_side = min(crop_side, (side - 2 * margin) // stride * stride) if exact else side
    start = (side - crop_side) // 2 // stride * stride if exact else 0
    return {
        "scene": str(scene),
        "model": str(network.file),
        "shift": network.shift,
        "factor": network.factor,
        "flags": network.flags,
        "sides": network.sides,
        "threads": WORKERS,
        "stride": stride,
        "kind": plan["margin_kind"],
        "crop": (start, start, crop_side),
        "tune": False,
        **{key: plan[key] for key in ("window", "core", "margin", "windows", "batch")},
    }


def before(book: Book, folder: Path, task: dict, chosen: tuple[str, ...], pythons: dict[str, str]) -> None:
    """What is done once, ahead of the rounds: MONAI's best window, the torch network's parity, one pass."""
    tuned = book.said.get("tuned", {})
    for peer in chosen:
        if peer.startswith("monai") and peer not in tuned:
            tuned[peer], _ = measured(folder, peer, [pythons[peer], PEERS[peer].script], task | {"tune": True})
            print(f"peers: {peer}: window {tuned[peer]['window']}, overlap {tuned[peer]['overlap']}", flush=True)
            book.note(tuned=tuned)
    torch = next((peer for peer in chosen if PEERS[peer].torch), None)
    if torch and "parity" not in book.said:
        far, _ = measured(folder, "parity", [pythons[torch], "parity.py"], task)
        if far["difference"] >= CLOSE:
            raise SystemExit(f"The torch network's logits are {far['difference']:g} from ONNX Runtime's.")
        book.note(parity=far["difference"])
    if task["kind"] == "exact" and not _truth(folder, task).exists():
        watched(
            [python_of(OWN), str(SCRIPTS / "one_pass.py"), _written(folder, _truth(folder, task).stem, task)], LIMIT
        )


def heed_others(book: Book) -> None:
    """Note what share of the machine others use just before a round."""
    book.note(busy=[*book.said.get("busy", []), psutil.cpu_percent(interval=2.0)])


def one_round(book: Book, folder: Path, task: dict, chosen: tuple[str, ...], pythons: dict[str, str]) -> dict:
    """Each peer once: its figures. One that fails is noted and left out from then on."""
    figures = {}
    for peer in chosen:
        if peer in book.said.get("failed", {}):
            continue
        monai = book.said.get("tuned", {}).get(peer)
        more = {"monai_window": monai["window"], "monai_overlap": monai["overlap"]} if monai else {}
        try:
            said, figures[peer] = measured(folder, peer, [pythons[peer], PEERS[peer].script], task | more)
        except PeerError as error:
            print(f"peers: {peer} failed: {error}", flush=True)
            book.note(failed=book.said.get("failed", {}) | {peer: str(error)})
            continue
        apart = differing(folder, task, said)
        facts = {key: said[key] for key in ("window", "overlap", "versions")} | {"differing": apart}
        book.note(facts=book.said.get("facts", {}) | {peer: facts})
        print(f"{told(peer, figures[peer])}, {apart} pixels differ", flush=True)
    return figures


def differing(folder: Path, task: dict, said: dict) -> int | None:
    """How many pixels of the crop are not those of one pass, or of maskmill's mask where one pass says nothing else.

    None where there is no mask, or nothing yet to hold it against.
    """
    truth = _truth(folder, task)
    top, left, side = task["crop"]
    place = slice(top, top + side), slice(left, left + side)
    if task["kind"] != "exact":
        truth = folder / "maskmill" / Path(task["scene"]).stem / "mask.tif"
    mask = Path(said["mask"])
    if not truth.exists() or (task["kind"] != "exact" and "bare" in mask.name):
        return None
    expected = np.load(truth) if truth.suffix == ".npy" else read_mask(truth)[place]
    return int((read_mask(mask)[place] != expected).sum())


def read_mask(path: Path) -> np.ndarray:
    """A mask as (row, col), of whichever form a peer writes."""
    if path.suffix == ".npy":
        return np.load(path)
    if any(part.endswith(".zarr") for part in path.parts):
        return np.asarray(zarr.open_array(path, mode="r")[:])
    with rasterio.open(path) as file:
        return file.read(1)


def measured(folder: Path, name: str, start: list[str], task: dict) -> tuple[dict, dict]:
    """What a peer says, and its figures: seconds of the whole process and inside it, bytes at the peak.

    `start` is [interpreter, script]; what the peer writes lies in the folder, under the name.
    """
    python, script = start
    seen = watched([python, str(SCRIPTS / script), _written(folder, name, task)], LIMIT)
    figures = {"whole": seen.seconds, "inside": seen.said["seconds"], "peak": seen.peak}
    return seen.said, figures | seen.said.get("figures", {})


def told(name: str, figures: dict) -> str:
    """One run, in a line."""
    whole, inside, peak = figures["whole"], figures["inside"], figures["peak"] / 2**20
    return f"{name}: {whole:.1f} s, inside {inside:.1f} s, {peak:.0f} MiB"


def _written(folder: Path, name: str, task: dict) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(task | {"out": str(folder / name)}), encoding="utf-8")
    return str(path)


def _truth(folder: Path, task: dict) -> Path:
    return folder / f"one-pass-{Path(task['scene']).stem}-{'-'.join(map(str, task['crop']))}.npy"
