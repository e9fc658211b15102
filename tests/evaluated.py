"""What evaluation is tested on: masks and labels as files, and the scores of whole arrays by plain arithmetic."""

import json

import numpy as np
import rasterio
from affine import Affine

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def put_mask(path, mask, classes, **profile):
    """A mask (row, col) that says its classes {value: name}, as ours do; with (band, row, col) one for each class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = mask if mask.ndim == 3 else mask[None]
    said = {"driver": "GTiff", "crs": "EPSG:32633", "transform": PLACE, "nodata": np.iinfo(mask.dtype).max, **profile}
    with rasterio.open(
        path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype=mask.dtype, **said
    ) as file:
        file.write(bands)
        if mask.ndim == 3:
            file.descriptions = list(classes.values())
            file.update_tags(MASKMILL_COLOURS=json.dumps(dict.fromkeys(classes.values(), "#ff0000")))
        else:
            told = [{"value": value, "name": name, "color_hint": "00FF00"} for value, name in classes.items()]
            told.append({"value": int(np.iinfo(mask.dtype).max), "name": "nodata", "color_hint": "000000"})
            file.update_tags(classification_classes=json.dumps(told))
    return path


def put_labels(path, labels, **profile):
    """A raster of labels (row, col)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"driver": "GTiff", "crs": "EPSG:32633", "transform": PLACE, **profile}
    with rasterio.open(
        path, "w", count=1, height=labels.shape[0], width=labels.shape[1], dtype=labels.dtype, **said
    ) as file:
        file.write(labels, 1)
    return path


def boundary_f1(truth, found, scored, value, tolerance):
    """Of one class, over whole arrays, pixel by pixel and pair by pair; None where neither has an outline."""

    def outline(array):
        rows, cols = array.shape
        points = set()
        for row, col in np.argwhere(scored & (array == value)).tolist():
            for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                y, x = row + down, col + across
                if 0 <= y < rows and 0 <= x < cols and scored[y, x] and array[y, x] != value:
                    points.add((row, col))
        return points

    def share(some, others):
        hits = sum(any((a - c) ** 2 + (b - d) ** 2 <= tolerance**2 for c, d in others) for a, b in some)
        return hits / len(some) if some else 0.0

    real, said = outline(truth), outline(found)
    if not real and not said:
        return None
    precision, recall = share(said, real), share(real, said)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
