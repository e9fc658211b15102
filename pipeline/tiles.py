"""The tiles of a GeoTIFF, compressed piece by piece by whoever has time, and joined in order by one.

GDAL compresses a piece: a small GeoTIFF in memory, whose tiles are taken as they are. So each tile's bytes are those
that GDAL would have put into the whole file. A piece's file holds how many tiles it has (down, across), the length of
each, and the tiles, row by row.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from pipeline.grid import Rect
from pipeline.raster.access import environment
from pipeline.settings import statuses
from pipeline.store.hierarchy import Product
from pipeline.store.objects import put_unsynced
from pipeline.store.sink import Sink
from pipeline.store.tiff import images

TILE = 512
DEFLATE = 6  # its level
BEFORE, AFTER = 4, 4  # bytes around each tile
AROUND = BEFORE + AFTER
_COUNT = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Where the pieces of a result lie, and their side in pixels."""

    folder: Path
    side: int

    def path(self, product: str, level: int, row: int, col: int) -> Path:
        """The file of one, by its place among those of its level."""
        return self.folder / product / str(level) / f"{row}.{col}"


def piece_side(products: tuple[Product, ...]) -> int:
    """The side of the pieces, in pixels: some tiles, of which memory holds few bytes however many bands there are."""
    widest = max(product.pixel_bytes for product in products)
    return TILE * (4 if widest == 1 else 2 if widest <= 4 else 1)


def put_piece(sink: Sink, product: Product, level: int, rect: Rect, path: Path) -> None:
    """Compress the tiles of a rectangle of a level into a file; the rectangle begins with a tile.

    Raises BlockError where a shard is damaged, RoomError where the disk is full.
    """
    tiles = compressed(product, sink.read(product.name, rect, level))
    down, across = -(-rect.height // TILE), -(-rect.width // TILE)
    head = np.array([down, across, *(len(tile) for tile in tiles)], _COUNT)
    put_unsynced(path, head.tobytes() + b"".join(_dressed(tile) for tile in tiles), sink.path)


def compressed(product: Product, raster: NDArray[Any]) -> list[bytes]:
    """The tiles of a raster, (row, col) or (band, row, col), row by row, as a COG has them: bands pixel by pixel."""
    rows, cols = raster.shape[-2:]
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": rows,
        "width": cols,
        "count": product.channels or 1,
        "dtype": product.dtype,
        "nodata": statuses(product.dtype).nodata,
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "interleave": "pixel",
        "compress": "DEFLATE",
        "zlevel": DEFLATE,
        "predictor": 3 if product.numbers else 1,
        "bigtiff": "NO",
    }
    with environment(), MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(raster if raster.ndim == 3 else raster[None])
        content = memory.read()
    with io.BytesIO(content) as made:
        (image,) = images(made)
        starts, lengths = image.offsets.read(made).tolist(), image.counts.read(made).tolist()
    return [content[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def join(file: BinaryIO, pieces: Callable[[int, int, int], Path], side: int, tick: Callable[[int], None]) -> None:
    """Append all tiles to a Cloud-Optimized GeoTIFF that has none yet, and write into it where they lie.

    `pieces` names the file of the piece (level, row, col) among those of a side in pixels; `tick` is told of the pixels
    done. Memory holds a few tiles, and 16 bytes for each.
    """
    found = images(file)
    end = file.seek(0, os.SEEK_END)
    for level in reversed(range(len(found))):  # the coarsest come first
        (rows, cols), lengths = found[level].size, list[NDArray[np.uint64]]()
        for top in range(0, rows, side):
            beside = [pieces(level, top // side, col) for col in range(-(-cols // side))]
            bottom = min(top + side, rows)
            for number in range(-(-(bottom - top) // TILE)):
                lengths += [_copy_row(path, number, file) for path in beside]
            tick((bottom - top) * cols)
        counts = np.concatenate(lengths)
        starts = end + np.cumsum(counts + AROUND) - counts - AFTER
        end = file.tell()
        found[level].offsets.write(file, starts)
        found[level].counts.write(file, counts)
        file.seek(end)


def _copy_row(path: Path, number: int, file: BinaryIO) -> NDArray[np.uint64]:
    """Append a row of a piece's tiles; returns their lengths."""
    with path.open("rb") as piece:
        rows, cols = np.frombuffer(piece.read(2 * _COUNT.itemsize), _COUNT).tolist()
        lengths = np.frombuffer(piece.read(rows * cols * _COUNT.itemsize), _COUNT).astype(np.uint64)
        before, own = lengths[: number * cols], lengths[number * cols : (number + 1) * cols]
        piece.seek(int(before.sum()) + AROUND * len(before), os.SEEK_CUR)
        file.write(piece.read(int(own.sum()) + AROUND * len(own)))
    return own


def _dressed(tile: bytes) -> bytes:
    """A tile as it lies in a COG of GDAL's: its length before it, its last four bytes again after it."""
    return len(tile).to_bytes(BEFORE, "little") + tile + tile[-AFTER:]
