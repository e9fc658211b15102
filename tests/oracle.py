"""What the laws are tested against: small networks, scenes made of noise, and one pass over the whole image.

The oracle shares nothing with the pipeline but the network: it scales in numpy, pads with numpy.pad, and runs the bare
graph in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import rasterio
from affine import Affine
from onnx import TensorProto, helper, numpy_helper

from pipeline.grid import Grid
from pipeline.making import Making, Site
from pipeline.network.card import Card
from pipeline.network.mlm import embed
from pipeline.raster.source import open_scene
from pipeline.run import SceneRun, open_run
from pipeline.settings import NODATA, Job
from pipeline.settle import open_network, settle
from pipeline.store.hierarchy import Product
from pipeline.tune import Tuner
from pipeline.work import close_bench, run_block

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 55.0, 60.0)
TUNER = Tuner()  # one probe for all tests of a process


def small_unet(seed: int = 0, classes: int = 3, pooled: bool = False) -> onnx.ModelProto:
    """Two levels, stride 2, three bands; `pooled` adds a global pooling, which no margin makes exact."""
    rng = np.random.default_rng(seed)
    weights: list[TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:]) or 1)
        weights.append(numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name))
        return name

    conv = partial(helper.make_node, "Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    nodes = [
        conv(["x", weight("w1", 8, 3, 3, 3)], ["a"]),
        helper.make_node("Relu", ["a"], ["top"]),
        helper.make_node("MaxPool", ["top"], ["down"], kernel_shape=[2, 2], strides=[2, 2]),
        conv(["down", weight("w2", 16, 8, 3, 3)], ["b"]),
        helper.make_node("Relu", ["b"], ["low"]),
    ]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["low"], ["squeezed"], name="squeeze"),
            helper.make_node("Mul", ["low", "squeezed"], ["excited"]),
        ]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    weights.append(scales)
    nodes += [
        helper.make_node(
            "Resize",
            ["excited" if pooled else "low", "", "scales"],
            ["up"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Concat", ["top", "up"], ["both"], axis=1),
        conv(["both", weight("w3", classes, 24, 3, 3)], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small-unet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, "h", "w"])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


HUGE = np.finfo(np.float32).max
"""A pixel that is a number, of which what `brittle` gives says infinity."""


def brittle(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, but that numbers overflow in it: of scaled pixels beyond 1e30 it says what is not finite."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    name, numbers = made.graph.input[0].name, {"more": 1e9, "less": 1e-9}
    for node in made.graph.node:
        node.input[:] = ["as it was" if one == name else one for one in node.input]
    made.graph.initializer.extend(
        numpy_helper.from_array(np.array(number, np.float32), one) for one, number in numbers.items()
    )
    made.graph.node.insert(0, helper.make_node("Mul", ["much more", "less"], ["as it was"]))
    made.graph.node.insert(0, helper.make_node("Mul", [name, "more"], ["much more"]))
    return made


def small_card(classes: int = 3) -> Card:
    """The card of `small_unet`."""
    said = {
        "name": "small-unet",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "mean_std", "mean": list(MEAN), "std": list(STD)},
        "classes": [{"name": f"class {k}", "value": 10 * k} for k in range(classes)],
        "layout": "NCHW",
        "says": "logits",
        "activation": "softmax",
        "window": 64,
    }
    return Card.of(said, "the test's card")


def save_model(path: Path, model: onnx.ModelProto, card: Card | None = None) -> Path:
    """Write a model with its card inside."""
    onnx.save(embed(model, card or small_card()), path)
    return path


def save_scene(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    """Write (band, row, col) pixels as a tiled GeoTIFF in UTM."""
    bands, rows, cols = pixels.shape
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    tiling = {"tiled": True, "blockxsize": 64, "blockysize": 64} if min(rows, cols) >= 64 else {}
    said = {"driver": "GTiff", "dtype": pixels.dtype, **place, **tiling, **profile}
    with rasterio.open(path, "w", count=bands, height=rows, width=cols, **said) as file:
        file.write(pixels)
    return path


def noise(rows: int, cols: int, seed: int = 0, bands: int = 3) -> np.ndarray:
    """Pixels (band, row, col) uint8 with structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (bands, -(-rows // 7), -(-cols // 7))).repeat(7, 1).repeat(7, 2)[:, :rows, :cols]
    return (coarse + rng.integers(0, 56, (bands, rows, cols))).astype(np.uint8)


def one_pass(model: onnx.ModelProto, pixels: np.ndarray, margin: int = 32, stride: int = 2) -> np.ndarray:
    """Logits (class, row, col) of the bare network over the whole image at once, padded by reflection."""
    _, rows, cols = pixels.shape
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (MEAN, STD))
    side = [(margin, margin + (-length) % stride + 32) for length in (rows, cols)]
    # ^ room enough for a coarsest feature map of 16 × 16, whatever the scene's size
    padded = np.pad((pixels - mean) * (np.float32(1) / std), [(0, 0), *side], mode="reflect")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    said = session.run(None, {session.get_inputs()[0].name: padded[None].astype(np.float32)})[0][0]
    return said[:, margin : margin + rows, margin : margin + cols]


def expected_mask(model: onnx.ModelProto, pixels: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """The mask that one pass gives; the classes' values are ten times their index, as `small_card` has it."""
    mask = (10 * one_pass(model, pixels).argmax(axis=0)).astype(np.uint8)
    return mask if valid is None else np.where(valid, mask, NODATA).astype(np.uint8)


def opened(job: Job, name: str | None = None) -> SceneRun:
    """Open the run of a job's one scene, in this process."""
    network = open_network(Path(job.model), job)
    uri = str(job.scenes[0])
    scene = open_scene(uri, job.bands or network.card.file_bands, name or Path(uri).stem)
    return open_run(job, scene.name, lambda frozen: settle(job, network, scene, TUNER, frozen, 1))


def do_blocks(run: SceneRun, blocks: Iterable[int]) -> None:
    """Do blocks here and now, in the order given, as a worker would."""
    for block in blocks:
        run.take(run_block(run.plan, block))
    close_bench()


def run_here(job: Job, order: Callable[[list[int]], Iterable[int]] = list) -> dict[str, object]:
    """Run a job's one scene in this process; returns its report."""
    with opened(job) as run:
        do_blocks(run, order(run.todo))
        return run.finish(lambda *_: None)


def make_all(store: Path, products: tuple[Product, ...], grid: Grid, threads: int = 2) -> Making:
    """Make the coarser levels and the tiles of a store whose blocks are all there, the tiles beside it."""
    with ThreadPoolExecutor(threads) as pool:
        making = Making.begin(Site.of(store, store.parent, products, grid), pool.submit, range(len(grid)))
        making.finish(lambda *_: None)
    return making


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_mask(folder: Path) -> np.ndarray:
    """The mask of a finished scene, from its COG."""
    with rasterio.open(folder / "mask.tif") as file:
        return file.read(1)
