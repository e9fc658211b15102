"""A small world to train on: dark lakes in bright land, as pairs in two folders or as one large image with labels."""

import json

import numpy as np
from affine import Affine
from PIL import Image

from tests.oracle import save_scene

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def lakes(rows, cols, seed, count=4):
    """(image uint8 (3, rows, cols), truth uint8 (rows, cols), 1 in a lake); lakes are discs."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:rows, :cols]
    truth = np.zeros((rows, cols), np.uint8)
    for _ in range(count):
        middle, radius = random.integers(0, (rows, cols)), random.integers(5, max(6, min(rows, cols) // 4))
        truth |= ((row - middle[0]) ** 2 + (col - middle[1]) ** 2 < radius**2).astype(np.uint8)
    colours = np.array([[150, 130, 90], [30, 50, 80]])
    image = colours[truth].transpose(2, 0, 1) + random.integers(-20, 20, (3, rows, cols))
    return image.astype(np.uint8), truth


def put_pairs(folder, count=8, side=48, value=255):
    """`images/` and `masks/` of PNGs; a lake has the value given."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for at in range(count):
        image, truth = lakes(side, side, at)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / "images" / f"{at}.png")
        Image.fromarray(truth * np.uint8(value)).save(folder / "masks" / f"{at}_mask.png")
    return folder


def put_large(folder, rows=400, cols=480, seed=3):
    """`scene.tif` and `labels.tif` on one grid, and the lakes again as squares in `labels.geojson`; gives the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    image, truth = lakes(rows, cols, seed, 30)
    save_scene(folder / "scene.tif", image, transform=PLACE, crs="EPSG:32633")
    save_scene(folder / "labels.tif", truth[None], transform=PLACE, crs="EPSG:32633")
    squares = [_square(top, left) for top in range(0, rows - 40, 80) for left in range(0, cols - 40, 80)]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    features = [{"type": "Feature", "properties": {}, "geometry": square} for square in squares]
    (folder / "labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return truth


def _square(top, left, side=40):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    return {"type": "Polygon", "coordinates": [[list(PLACE @ corner) for corner in corners]]}
