"""What runs, found by running it: the tables of the README. `python -m tests.what_runs` writes them there."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import rasterio
import rasterio.shutil
import yaml

from pipeline.network.card import Card
from pipeline.network.mlm import embed
from pipeline.network.understand import gather
from pipeline.raster.reader import Reader
from pipeline.raster.source import open_scene
from pipeline.raster.stage import reason_to_stage
from pipeline.settings import Job
from tests.cards import network
from tests.images import noise, vrt_of, write_image
from tests.oracle import run_here, save_scene
from tests.strategies import Sketch, unet
from tests.test_foreign import EMD, ITEM, STATS, UKIS, WSINFER, bioimage
from tests.test_place import drawn
from tests.tiny import Network as Tiny

README = Path(__file__).parents[1] / "README.md"
_START, _END = "<!-- what runs -->", "<!-- end -->"
SIDE = 2100  # px: from 4 megapixels on, the layout of a file matters
TILED = {"tiled": True, "blockxsize": 512, "blockysize": 512}


def tables() -> str:
    """The tables, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        images = [f"| {kind} | {driver} | {how} |" for kind, driver, how in _images(Path(folder))]
    with tempfile.TemporaryDirectory() as folder:
        networks = [f"| {' | '.join(row)} |" for row in _networks(Path(folder))]
    with tempfile.TemporaryDirectory() as folder:
        documents = [f"| {' | '.join(row)} |" for row in _documents(Path(folder))]
    return "\n".join(
        [
            *("| image | read by | windows are read from |", "|---|---|---|", *images, ""),
            *("| network | its answer is | margin | rasters |", "|---|---|---|---|", *networks, ""),
            *("| document | the card has from it | and asks for |", "|---|---|---|", *documents),
        ]
    )


def written(readme: str) -> str:
    """The README with the tables in their place. Raises ValueError where the place is not marked."""
    before, rest = readme.split(_START)
    _, after = rest.split(_END)
    return f"{before}{_START}\n{tables()}\n{_END}{after}"


def _images(folder: Path) -> Iterator[tuple[str, str, str]]:
    pixels = noise(1, SIDE, SIDE)
    for kind, write in _FORMATS.items():
        place = folder / str(abs(hash(kind)))
        place.mkdir()
        scene = open_scene(write(place, pixels), None)
        with Reader(scene) as reader:
            found, valid = reader.read(scene.rect)
        lossy = np.abs(found.astype(int) - pixels).mean() > 0
        if not valid.all() or (lossy and "lossy" not in kind):
            raise AssertionError(f"{kind} is not read as it was written")
        driver = "GDAL, " + scene.driver
        yield kind, driver, "a tiled copy, staged first" if reason_to_stage(scene) else "the file itself"
        shutil.rmtree(place)


def _tiff(**profile: object) -> Callable[[Path, np.ndarray], str]:
    return lambda folder, pixels: str(write_image(folder / "image.tif", pixels, **profile))


def _copied(name: str, driver: str, **options: str) -> Callable[[Path, np.ndarray], str]:
    def write(folder: Path, pixels: np.ndarray) -> str:
        source = write_image(folder / "source.tif", pixels)
        rasterio.shutil.copy(source, folder / name, driver=driver, **options)
        return str(folder / name)

    return write


def _vrt(folder: Path, pixels: np.ndarray) -> str:
    write_image(folder / "part.tif", pixels, **TILED)
    (folder / "image.vrt").write_text(vrt_of("part.tif", size=pixels.shape[1:]))
    return str(folder / "image.vrt")


def _zipped(folder: Path, pixels: np.ndarray) -> str:
    (folder / "in").mkdir()
    write_image(folder / "in" / "image.tif", pixels, **TILED)
    return f"/vsizip/{shutil.make_archive(str(folder / 'images'), 'zip', folder / 'in')}/image.tif"


_FORMATS: dict[str, Callable[[Path, np.ndarray], str]] = {
    "GeoTIFF in tiles": _tiff(**TILED),
    "GeoTIFF in strips": _tiff(),
    "GeoTIFF in one compressed strip": _tiff(compress="deflate", blockysize=SIDE),
    "GeoTIFF in tiles of 2048": _tiff(tiled=True, blockxsize=2048, blockysize=2048),
    "Cloud-Optimized GeoTIFF": _copied("image.tif", "COG"),
    "GeoTIFF in a zip (`/vsizip/…`)": _zipped,
    "VRT of files in its folder": _vrt,
    "JPEG 2000, lossless": _copied("image.jp2", "JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100"),
    "PNG": _copied("image.png", "PNG"),
    "JPEG (lossy)": _copied("image.jpg", "JPEG"),
    "BMP": _copied("image.bmp", "BMP"),
    "NetCDF": _copied("image.nc", "netCDF"),
    "Zarr": _copied("image.zarr", "Zarr"),
}


def _networks(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    save_scene(folder / "scene.tif", noise(3, 150, 170))
    for number, (family, (model, answer, said)) in enumerate(_FAMILIES.items()):
        path = folder / f"{number}.onnx"
        onnx.save(embed(model, _card(said)), path)
        job = Job(scenes=(str(folder / "scene.tif"),), model=str(path), out=folder / f"out{number}", device="cpu")
        run_here(job)
        margin = _margin(folder / f"out{number}" / "scene")
        yield family, answer, margin, ", ".join(_rasters(folder / f"out{number}" / "scene"))


def _margin(folder: Path) -> str:
    import json

    margin = json.loads((folder / "report.json").read_text())["margin"]
    return f"{margin['pixels']} px, {margin['kind']}"


def _rasters(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            bands = f"{file.count} × " if file.count > 1 else ""
            yield f"`{path.name}` {bands}{file.dtypes[0]}"


def _card(said: dict[str, object]) -> Card:
    base = {
        "name": "family",
        "bands": ["red", "green", "blue"],
        "scaling": {"kind": "constant", "divide_by": 255},
        "classes": ["a", "b", "c"],
        "layout": "NCHW",
        "says": "logits",
        "activation": "softmax",
        "window": 96,
    }
    return Card.of(base | said, "the card")


def _mixing() -> onnx.ModelProto:
    sketch = Sketch(3)
    x = sketch.add("Relu", sketch.conv(sketch.image, 4))
    gate = sketch.add("Sigmoid", sketch.conv(sketch.add("GlobalAveragePool", x, name="squeeze"), 4, 1))
    return sketch.model(sketch.conv(sketch.add("Mul", x, gate), 3))


def _several() -> onnx.ModelProto:
    sketch = Sketch(3)
    x = sketch.add("Relu", sketch.conv(sketch.image, 4))
    return sketch.model(sketch.conv(x, 3), sketch.conv(x, 5))


def _many() -> onnx.ModelProto:
    sketch = Sketch(3)
    return sketch.model(sketch.conv(sketch.image, 300, 1))


_MANY = {"classes": [f"class {number}" for number in range(300)]}
_FAMILIES: dict[str, tuple[onnx.ModelProto, str, dict[str, object]]] = {
    "U-Net, same padding": (unet(), "logits (N, C, H, W)", {}),
    "… channels last": (unet(layout="NHWC"), "logits (N, H, W, C)", {"layout": "NHWC"}),
    "… with squeeze-excite": (_mixing(), "logits (N, C, H, W)", {}),
    "valid padding": (drawn("valid"), "smaller than its window", {}),
    "logits at 1/4": (drawn("quarter"), "¼ of its window", {}),
    "… of a network that mixes all pixels": (drawn("quarter", mixes=True), "¼ of its window", {}),
    "super-resolution": (drawn("double"), "twice its window", {}),
    "float16": (Tiny(half=True).model(), "logits", {}),
    "one sigmoid channel": (
        Tiny(channels=1, sigmoid=True, rank3=True).model(),
        "probabilities (N, H, W)",
        {"classes": ["no", "yes"], "activation": "sigmoid", "says": "probabilities"},
    ),
    "several sigmoid channels": (unet(), "logits", {"classes": ["none", "a", "b", "c"], "activation": "sigmoid"}),
    "… `exclusive: true`": (
        unet(),
        "logits",
        {"classes": ["none", "a", "b", "c"], "activation": "sigmoid", "exclusive": True},
    ),
    "several outputs: the first, or `output:`": (_several(), "logits", {}),
    "300 classes": (_many(), "logits", _MANY),
    "regression": (unet(), "numbers", {"says": "values", "activation": "none"}),
}


_ENTRIES = ("bands", "scaling", "units", "resolution", "classes", "says", "activation", "window")
_DOCUMENTS: dict[str, tuple[str, dict[str, object], onnx.ModelProto]] = {
    "STAC MLM item": ("net.stac.json", ITEM, network(2, 2)),
    "bioimage.io 0.5": ("bioimageio.yaml", bioimage(after=[{"id": "sigmoid"}]), network(2, 1)),
    "ukis-csmask": ("net.json", UKIS, network(2, 3)),
    "wsinfer": ("config.json", WSINFER, network(3, 2)),
    "Esri, plain": ("net.emd", EMD | {"NormalizationStats": STATS}, network(2, 2)),
}


def _documents(folder: Path) -> Iterator[tuple[str, str, str]]:
    for number, (kind, (name, document, model)) in enumerate(_DOCUMENTS.items()):
        place = folder / str(number)
        place.mkdir()
        onnx.save(model, place / "net.onnx")
        dump = yaml.safe_dump if name.endswith(".yaml") else json.dumps
        (place / name).write_text(dump(document), encoding="utf-8")
        found = gather(model, place / "net.onnx")
        has = [entry for entry in _ENTRIES if found.sources.get(entry) == name]
        yield f"{kind} (`{name.replace('net.', '<model>.')}`)", ", ".join(has), ", ".join(found.missing) or "nothing"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
