"""The mask on disk: whatever order, whatever was there before, the same bytes; and what is damaged is noticed."""

from __future__ import annotations

import functools
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BlockError, SettingsError
from pipeline.grid import Grid, Rect
from pipeline.store.georef import Georef
from pipeline.store.hierarchy import Product, create, levels
from pipeline.store.objects import ABSENT
from pipeline.store.sink import Sink

PLACE = Georef(transform=(2.0, 0.0, 100.0, 0.0, -2.0, 900.0))
CLASSES = ((0, "sea", "#0000ff"), (7, "land, dry", "#00ff00"))
PRODUCTS = (Product("mask"), Product("probabilities", 2, ("sea", "land")))


def tree(folder):
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lay_out(path, grid, products=PRODUCTS, chunk=None):
    create(path, grid, products, chunk or grid.core, georef=PLACE, classes=CLASSES)
    return Sink(path)


def pixels(grid, block, product, seed=0):
    """What a block says: noise, one value, or nothing but 255, by its number."""
    shape = (*(() if product.channels is None else (product.channels,)), *grid.owned(block).shape)
    kind = (block + seed) % 3
    if kind == 0:
        return np.random.default_rng([seed, block]).integers(0, 256, shape, dtype=np.uint8)
    return np.full(shape, 255 if kind == 1 else 3, np.uint8)


def put_all(sink, grid, blocks, seed=0):
    return {
        (block, product.name): sink.put(product.name, grid.owned(block), pixels(grid, block, product, seed))
        for block in blocks
        for product in PRODUCTS
    }


@st.composite
def grids(draw):
    core = draw(st.sampled_from([4, 8, 24]))
    block = core * draw(st.integers(1, 3))
    side = st.integers(1, 3 * block + 1)
    return Grid(draw(side), draw(side), stride=4, core=core, margin=4, block=block)


@settings(max_examples=15, deadline=None)
@given(grids(), st.data())
def test_any_order_any_block_twice_over_anything_gives_the_same_bytes(grid, data):
    with tempfile.TemporaryDirectory() as folder:
        plain, other = Path(folder) / "plain", Path(folder) / "other"
        shards = put_all(lay_out(plain / "mask.zarr", grid), grid, range(len(grid)))
        sink = lay_out(other / "mask.zarr", grid)
        blocks = list(range(len(grid)))
        put_all(sink, grid, data.draw(st.lists(st.sampled_from(blocks), max_size=3)), seed=1)  # what a retry leaves
        order = data.draw(st.permutations(blocks + data.draw(st.lists(st.sampled_from(blocks), max_size=3))))
        for block in order:
            again = put_all(pickle.loads(pickle.dumps(sink)), grid, [block])
            assert all(again[key] == shards[key] for key in again)
        assert tree(plain / "mask.zarr") == tree(other / "mask.zarr")
        assert all(sink.check(product, *grid.position(block), shard) for (block, product), shard in shards.items())


@settings(max_examples=15, deadline=None)
@given(grids(), st.data())
def test_what_was_put_is_read_in_any_rectangle(grid, data):
    whole = np.random.default_rng(5).integers(0, 256, (2, grid.height, grid.width), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        sink = lay_out(Path(folder) / "mask.zarr", grid)
        for block in range(len(grid)):
            rows, cols = grid.owned(block).slices()
            sink.put("mask", grid.owned(block), whole[0, rows, cols])
            sink.put("probabilities", grid.owned(block), whole[:, rows, cols])
        top, left = data.draw(st.integers(0, grid.height - 1)), data.draw(st.integers(0, grid.width - 1))
        rect = Rect(
            top, left, data.draw(st.integers(top + 1, grid.height)), data.draw(st.integers(left + 1, grid.width))
        )
        assert np.array_equal(sink.read("mask", rect), whole[(0, *rect.slices())])
        assert np.array_equal(sink.read("probabilities", rect), whole[(slice(None), *rect.slices())])
        assert np.array_equal(zarr.open_group(Path(folder) / "mask.zarr", mode="r")["mask"][:], whole[0])


GRID = Grid(70, 50, stride=4, core=8, margin=4, block=32)


def test_nothing_but_255_has_no_file_and_takes_the_old_one_away(tmp_path):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    bare = tree(tmp_path / "mask.zarr")
    rect = GRID.owned(0)
    assert sink.put("mask", rect, np.zeros(rect.shape, np.uint8)) != ABSENT
    assert sink.put("mask", rect, np.full(rect.shape, 255, np.uint8)) == ABSENT
    assert tree(tmp_path / "mask.zarr") == bare
    assert sink.check("mask", 0, 0, ABSENT)
    assert (sink.read("mask", rect) == 255).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: os.truncate(file, 0),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
        lambda file: file.write_bytes(file.read_bytes() + b"more"),
    ],
    ids=["emptied", "truncated", "deleted", "a bit changed", "grown"],
)
def test_a_damaged_shard_is_found_and_redone_to_the_same_bytes(tmp_path, damage):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    shards = put_all(sink, GRID, range(len(GRID)))
    whole = tree(tmp_path / "mask.zarr")
    damage(tmp_path / "mask.zarr" / "mask" / "c" / "0" / "0")
    broken = [key for key, shard in shards.items() if not sink.check(key[1], *GRID.position(key[0]), shard)]
    assert broken == [(0, "mask")]
    sink.remove("mask", 0, 0)
    put_all(sink, GRID, [0])
    assert tree(tmp_path / "mask.zarr") == whole


def test_a_torn_shard_is_a_sentence_when_read_and_is_overwritten(tmp_path):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    shards = put_all(sink, GRID, [0])
    os.truncate(tmp_path / "mask.zarr" / "mask" / "c" / "0" / "0", 40)
    with pytest.raises(BlockError, match="a shard is damaged"):
        sink.read("mask", GRID.owned(0))
    assert put_all(sink, GRID, [0]) == shards
    assert sink.check("mask", 0, 0, shards[0, "mask"])


def test_a_missing_shard_that_should_be_absent_is_damage_if_it_is_there(tmp_path):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    sink.put("mask", GRID.owned(0), np.zeros((32, 32), np.uint8))
    assert not sink.check("mask", 0, 0, ABSENT)
    sink.remove("mask", 0, 0)
    sink.remove("mask", 0, 0)
    assert sink.check("mask", 0, 0, ABSENT)


@pytest.mark.parametrize("rect", [Rect(0, 0, 31, 32), Rect(8, 0, 32, 32), Rect(0, 0, 64, 32), Rect(64, 32, 96, 64)])
def test_part_of_a_shard_is_refused(tmp_path, rect):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    with pytest.raises(ValueError, match="not one whole shard"):
        sink.put("mask", rect, np.zeros(rect.shape, np.uint8))


@pytest.mark.parametrize(
    "data", [np.zeros((32, 32), np.int64), np.zeros((32, 31), np.uint8), np.zeros((1, 32, 32), np.uint8)]
)
def test_other_pixels_than_the_array_takes_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="takes uint8 of shape"):
        lay_out(tmp_path / "mask.zarr", GRID).put("mask", GRID.owned(0), data)


def test_a_product_that_was_not_made_is_a_sentence(tmp_path):
    with pytest.raises(SettingsError, match="has no array confidence"):
        lay_out(tmp_path / "mask.zarr", GRID).put("confidence", GRID.owned(0), np.zeros((32, 32), np.uint8))


def test_what_cannot_be_written_is_a_sentence_that_names_it(tmp_path):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    (tmp_path / "mask.zarr" / "mask" / "c").write_bytes(b"a file in the way")
    with pytest.raises(SettingsError, match=r"mask/c/0/0 cannot be written"):
        sink.put("mask", GRID.owned(0), np.zeros((32, 32), np.uint8))


@given(st.integers(1, 300_000), st.integers(1, 300_000))
def test_levels_halve_until_they_are_small(height, width):
    shapes = levels(height, width)
    assert shapes[0] == (height, width)
    assert max(shapes[-1]) <= 512
    assert all(max(shape) > 512 for shape in shapes[:-1])
    assert shapes[1:] == [(-(-rows // 2), -(-cols // 2)) for rows, cols in shapes[:-1]]


def test_every_level_takes_whole_shards(tmp_path):
    grid = Grid(1500, 700, stride=4, core=64, margin=4, block=256)
    sink = lay_out(tmp_path / "mask.zarr", grid)
    for level, (rows, cols) in enumerate(levels(1500, 700)):
        expected = np.random.default_rng(level).integers(0, 9, (rows, cols), dtype=np.uint8)
        for top in range(0, rows, 256):
            for left in range(0, cols, 256):
                rect = Rect(top, left, top + 256, left + 256).intersect(Rect(0, 0, rows, cols))
                shard = sink.put_level("mask", level, rect, expected[rect.slices()])
                assert sink.check("mask", top // 256, left // 256, shard, level)
        assert sink.shape("mask", level) == (rows, cols)
        assert np.array_equal(sink.read("mask", Rect(0, 0, rows, cols), level), expected)


def test_an_interrupted_create_is_repaired(tmp_path):
    lay_out(tmp_path / "whole" / "mask.zarr", GRID)
    whole = tree(tmp_path / "whole" / "mask.zarr")
    for name in whole:
        store = tmp_path / "part" / "mask.zarr"
        shutil.copytree(tmp_path / "whole" / "mask.zarr", store)
        (store / name).write_bytes(whole[name][: len(whole[name]) // 2])
        lay_out(store, GRID)
        (store / name).unlink()
        lay_out(store, GRID)
        assert tree(store) == whole
        shutil.rmtree(tmp_path / "part")


def test_create_leaves_shards_and_intact_files_alone(tmp_path):
    sink = lay_out(tmp_path / "mask.zarr", GRID)
    put_all(sink, GRID, range(len(GRID)))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mask.zarr").rglob("*") if path.is_file()}
    lay_out(tmp_path / "mask.zarr", GRID)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("chunk", [0, 12, 64])
def test_a_chunk_that_does_not_divide_the_block_is_refused(tmp_path, chunk):
    with pytest.raises(SettingsError, match="whole fraction of the block, 32"):
        create(tmp_path / "mask.zarr", GRID, PRODUCTS, chunk, georef=PLACE, classes=CLASSES)
    assert not (tmp_path / "mask.zarr").exists()


def test_products_need_a_label_for_each_channel():
    with pytest.raises(SettingsError, match="2 channels and 1 labels"):
        Product("probabilities", 2, ("sea",))
    with pytest.raises(SettingsError, match="at least 1"):
        Product("probabilities", 0)


def test_the_metadata_says_how_it_lies_and_what_values_mean(tmp_path):
    lay_out(tmp_path / "mask.zarr", GRID, chunk=4)
    mask = json.loads((tmp_path / "mask.zarr" / "mask" / "zarr.json").read_text())
    said = mask["attributes"]
    assert mask["fill_value"] == 255
    assert "_FillValue" not in said
    assert mask["dimension_names"] == ["y", "x"]
    assert mask["chunk_grid"]["configuration"]["chunk_shape"] == [32, 32]
    assert mask["codecs"][0]["configuration"]["chunk_shape"] == [4, 4]
    assert said["flag_values"] == [0, 7, 253, 254, 255]
    assert said["flag_meanings"].split(" ") == ["sea", "land_dry", "failed", "outside", "nodata"]
    assert len(said["flag_colors"].split(" ")) == 5
    assert said["classification:classes"][1] == {
        "value": 7,
        "name": "land_dry",
        "title": "land, dry",
        "color_hint": "00FF00",
    }
    assert [one["value"] for one in said["classification:classes"] if one.get("nodata")] == [253, 254, 255]
    probabilities = json.loads((tmp_path / "mask.zarr" / "probabilities" / "zarr.json").read_text())
    assert probabilities["shape"] == [2, 70, 50]
    assert probabilities["chunk_grid"]["configuration"]["chunk_shape"] == [2, 32, 32]
    assert probabilities["codecs"][0]["configuration"]["chunk_shape"] == [1, 4, 4]
    assert probabilities["attributes"]["labels"] == ["sea", "land"]


PUT_ELSEWHERE = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
import zarr
zarr.config.set({"array.write_empty_chunks": True, "threading.max_workers": 4})  # what a user's own setting may say
from test_sink import GRID, lay_out, put_all
put_all(lay_out(Path(sys.argv[1]), GRID), GRID, reversed(range(len(GRID))))
"""


def test_another_process_and_threads_write_the_same_bytes(tmp_path):
    sink = lay_out(tmp_path / "a" / "mask.zarr", GRID)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(functools.partial(put_all, sink, GRID), [[block] for block in range(len(GRID))]))
    environment = os.environ | {"ZARR_ARRAY__WRITE_EMPTY_CHUNKS": "True"}
    command = [sys.executable, "-c", PUT_ELSEWHERE, str(tmp_path / "b" / "mask.zarr")]
    subprocess.run(command, check=True, env=environment)
    assert tree(tmp_path / "a" / "mask.zarr") == tree(tmp_path / "b" / "mask.zarr")


def test_what_comes_when_the_hierarchy_is_gone_makes_nothing_anew(tmp_path):
    grid = Grid(128, 128, 2, 64, 2, 64)
    store = tmp_path / "scene" / ".stage" / "mask.zarr"
    sink = lay_out(store, grid, (Product("mask"),))
    sink.put("mask", grid.owned(0), pixels(grid, 0, Product("mask")))
    store.rename(tmp_path / "scene" / "mask.zarr")
    store.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is there no more"):
        sink.put("mask", grid.owned(2), pixels(grid, 2, Product("mask")))
    assert [path.name for path in (tmp_path / "scene").iterdir()] == ["mask.zarr"]
