"""The sink: whole shards in, rectangles out, over the hierarchy that `hierarchy.create` laid out.

zarr encodes a shard into memory, and the file is put whole. So a shard's bytes depend on its pixels alone, whatever
lay there before; a kill leaves the old file or the new one; and zarr never has to read what a kill may have torn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.buffer import cpu
from zarr.storage import LocalStore, MemoryStore

from pipeline.errors import BlockError, SettingsError
from pipeline.grid import Rect
from pipeline.store.hierarchy import array_name, shard_name, stage_of
from pipeline.store.objects import ABSENT, Shard, put_whole, remove, shard_at, shard_of

# Workers are the parallelism: a pool of threads in each of them would only fight over the cores. And a shard of nothing
# but nodata must have no file, whatever the user's zarr is told elsewhere.
zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1, "array.write_empty_chunks": False})


class Sink:
    """Puts whole shards into a hierarchy that `create` made, and reads rectangles out of it.

    It travels between processes as its path; what it opens, it opens in the process where it is used. One process may
    put from many threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoders: dict[str, tuple[zarr.Array[Any], dict[str, Any]]] = {}
        self._readers: dict[str, zarr.Array[Any]] = {}

    def __reduce__(self) -> tuple[type[Sink], tuple[Path]]:
        return Sink, (self.path,)

    def put(self, product: str, rect: Rect, data: NDArray[Any]) -> Shard:
        """Write one whole shard of level 0: `rect` is a block's, `data` its pixels, (row, col) or (class, row, col).

        Returns the length and CRC-32 of the synced file, or ABSENT where every pixel is nodata and there is no file.
        Raises what `put_whole` raises, for no hole could be written there either, and ValueError for part of a shard.
        """
        return self.put_level(product, 0, rect, data)

    def put_level(self, product: str, level: int, rect: Rect, data: NDArray[Any]) -> Shard:
        """Write one whole shard of a level; `rect` is in that level's pixels. Returns and raises like `put`."""
        name = array_name(product, level)
        array, encoded = self._encoder(name)
        row, col = _whole_shard(array, rect, data)
        array[..., rect.top : rect.bottom, rect.left : rect.right] = data
        key = shard_name(name, array.ndim, row, col)
        buffer = encoded.pop(key, None)
        file = self.path / key
        if buffer is None:
            remove(file)
            return ABSENT
        content = buffer.to_bytes()
        put_whole(file, content, stage=stage_of(self.path), root=self.path)
        return shard_of(content)

    def read(self, product: str, rect: Rect, level: int = 0) -> NDArray[Any]:
        """The pixels of a rectangle inside a level, (row, col) or (class, row, col); nodata where no shard is.

        Raises BlockError where a shard is damaged.
        """
        array = self._reader(array_name(product, level))
        try:
            pixels = array[..., rect.top : rect.bottom, rect.left : rect.right]
        except (OSError, RuntimeError, ValueError) as error:
            raise BlockError(
                f"{self.path / array.path} cannot be read at rows {rect.top}–{rect.bottom}, columns "
                f"{rect.left}–{rect.right} ({error}): a shard is damaged; run again to have it redone."
            ) from error
        return np.asarray(pixels)

    def shape(self, product: str, level: int = 0) -> tuple[int, ...]:
        """The shape of a product's array at a level."""
        shape: tuple[int, ...] = self._reader(array_name(product, level)).shape
        return shape

    def check(self, product: str, block_row: int, block_col: int, shard: Shard, level: int = 0) -> bool:
        """Whether the file of a shard is what was put: there or absent, its length, its CRC-32."""
        file = self._file(product, block_row, block_col, level)
        try:
            if file.stat().st_size != shard.length or shard == ABSENT:
                return False
            return shard_at(file) == shard
        except FileNotFoundError:
            return shard == ABSENT
        except OSError:  # a file that cannot be read is no result
            return False

    def remove(self, product: str, block_row: int, block_col: int, level: int = 0) -> None:
        """Remove a shard's file if there is one. Raises what `put_whole` raises."""
        remove(self._file(product, block_row, block_col, level))

    def _file(self, product: str, row: int, col: int, level: int) -> Path:
        name = array_name(product, level)
        return self.path / shard_name(name, self._reader(name).ndim, row, col)

    def _encoder(self, name: str) -> tuple[zarr.Array[Any], dict[str, Any]]:
        """An array with the metadata of the one on disk, whose shards land in the dict beside it."""
        if name not in self._encoders:
            self._reader(name)  # which says so where there is no such array
            metadata = (self.path / name / "zarr.json").read_bytes()
            kept: dict[str, Any] = {f"{name}/zarr.json": cpu.Buffer.from_bytes(metadata)}
            self._encoders[name] = (zarr.open_array(MemoryStore(kept), path=name, mode="r+"), kept)
        return self._encoders[name]

    def _reader(self, name: str) -> zarr.Array[Any]:
        if name not in self._readers:
            try:
                self._readers[name] = zarr.open_array(LocalStore(self.path, read_only=True), path=name, mode="r")
            except (OSError, ValueError) as error:
                raise SettingsError(
                    f"{self.path} has no array {name}: it was not made, or in part; run the job again."
                ) from error
        return self._readers[name]


def _whole_shard(array: zarr.Array[Any], rect: Rect, data: NDArray[Any]) -> tuple[int, int]:
    """(row, col) of the shard that a rectangle is, among the shards; ValueError if it is not exactly one."""
    rows, cols = array.shape[-2:]
    side = (array.shards or array.chunks)[-1]
    row, col = rect.top // side, rect.left // side
    whole = Rect(row * side, col * side, (row + 1) * side, (col + 1) * side).intersect(Rect(0, 0, rows, cols))
    if rect != whole or rect.area == 0:
        raise ValueError(f"{rect} is not one whole shard of {array.path}: the shard that it starts in is {whole}")
    wanted = (*array.shape[:-2], *rect.shape)
    if data.shape != wanted or data.dtype != array.dtype:
        raise ValueError(
            f"{array.path} takes {array.dtype} of shape {wanted} there, not {data.dtype} of shape {data.shape}"
        )
    return row, col
