"""Small slides, written as Aperio's are: a tiled TIFF whose pages are the levels."""

import numpy as np
import rasterio


def write_slide(path, levels, mpp=0.5, tile=256, **profile):
    """Write levels of (3, row, col) uint8, finest first, as pages of a TIFF that OpenSlide takes for Aperio's."""
    _, rows, cols = levels[0].shape
    said = "Aperio Image Library v1\r\n" + f"{cols}x{rows}|AppMag = 20" + (f"|MPP = {mpp}" if mpp else "")
    for number, pixels in enumerate(levels):
        how = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "rgb", "interleave": "pixel"}
        how |= {"height": pixels.shape[1], "width": pixels.shape[2], "tiled": True} | profile
        how |= {"blockxsize": tile, "blockysize": tile} | ({"APPEND_SUBDATASET": "YES"} if number else {})
        with rasterio.open(path, "w", **how) as page:
            page.update_tags(TIFFTAG_IMAGEDESCRIPTION=said)
            page.write(pixels)
    return path


def speckled(rows, cols, seed=0):
    """Pixels of which no two neighbours agree."""
    return np.random.default_rng(seed).integers(0, 256, (3, rows, cols)).astype(np.uint8)


def halved(pixels, factor):
    """Means of squares, the sides rounded down as Aperio does."""
    _, rows, cols = pixels.shape
    rows, cols = rows // factor, cols // factor
    kept = pixels[:, : rows * factor, : cols * factor].reshape(3, rows, factor, cols, factor)
    return (kept.mean(axis=(2, 4)) + 0.5).astype(np.uint8)
