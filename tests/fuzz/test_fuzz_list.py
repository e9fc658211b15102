"""Lists and catalogues of scenes, and tables of classes, of strangers: scenes, or sentences."""

import csv
import io
import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.listing import listed
from flows.sources.listed import LeftOut
from pipeline.network.card import Card
from pipeline.raster.naming import demand_name
from pipeline.settings import Job
from tests.fuzz.drawn import altered, scalars, spoilt, values, written
from tests.fuzz.law import fuzz, fuzzed, is_sentence, lawful, listing
from tests.fuzz.test_fuzz_card import CARD

pytestmark = fuzz
ROWS = [["uri", "name", "taken"], ["a.tif", "a", "2026-05-01T10:20:30Z"], ["s3://b/c.tif", "", ""], ["x/../y.tif", "c"]]
LINES = "a.tif\n# no scene\n\nsub/b.tif\nhttps://host/c.tif?x=1\n../d.tif\n"
ITEM = {
    "type": "Feature", "stac_version": "1.1.0", "id": "one", "collection": "c", "bbox": [1, 45, 2, 46],
    "geometry": {"type": "Point", "coordinates": [1.5, 45.5]}, "links": [{"rel": "root", "href": "./catalog.json"}],
    "properties": {"datetime": "2026-05-01T10:00:00Z", "updated": "2026-05-02T10:00:00Z", "eo:cloud_cover": 10},
    "assets": {
        "B04": {"href": "./r.tif", "roles": ["data"], "type": "image/tiff", "bands": [{"name": "B04",
                "eo:common_name": "red", "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}]},
        "B03": {"href": "./g.tif", "eo:bands": [{"name": "B03", "common_name": "green"}],
                "raster:bands": [{"scale": 2}]},
    },
}  # fmt: skip
ROOT = {
    "type": "Catalog", "stac_version": "1.1.0", "id": "root", "description": "x",
    "links": [{"rel": "item", "href": "./one.json"}, {"rel": "self", "href": "./catalog.json"}],
}  # fmt: skip
FILTERS = {
    "bbox": [0, 0, 9, 60], "datetime": "2026-05", "collections": ["c"], "query": {"eo:cloud_cover": {"lt": 20}},
    "max_items": 2, "assets": {"red": "B04"},
}  # fmt: skip
_count = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lists")


def _scenes(job):
    left = LeftOut()
    found = list(listed(job, left))
    for sentence in (*left.problems, *left.notes()):
        is_sentence(sentence)
    for scene in found:
        demand_name(scene.entry.name)
    return found


def _listed(folder, files, scenes):
    """List what files say; nothing is changed."""
    place = folder / str(next(_count))
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)
    before = listing(folder)
    job = lawful(lambda: Job(scenes=[scenes(place)], model="m", out=place / "out", card={"bands": ["red"]}))
    lawful(_scenes, job)
    assert listing(folder) == before
    for name in files:
        (place / name).unlink()
    place.rmdir()


def _table(rows):
    text = io.StringIO()
    csv.writer(text).writerows([list(map(str, row)) if isinstance(row, list) else [str(row)] for row in rows])
    return text.getvalue().encode("utf-8", "replace")


@given(data=st.data())
@fuzzed(300)
def test_a_list_that_is_nearly_right(folder, data):
    ending = data.draw(st.sampled_from(("csv", "txt")))
    if ending == "csv":
        rows = data.draw(altered(ROWS))
        content = _table(rows if isinstance(rows, list) else [rows])
    else:
        content = LINES.encode()
    content = data.draw(st.just(content) | spoilt(content) | st.binary(max_size=60))
    _listed(folder, {f"list.{ending}": content}, lambda place: str(place / f"list.{ending}"))


@given(data=st.data())
@fuzzed(150)
def test_a_parquet_list_that_is_nearly_right(folder, data):
    kinds = st.sampled_from((["a.tif", None], [1, 2], [b"\xff", b"a"], [["a"], []], [1.5, None], [{"a": 1}, None]))
    names = data.draw(st.lists(st.sampled_from(("uri", "name", "taken", "x")), min_size=1, max_size=3, unique=True))
    content = io.BytesIO()
    pq.write_table(pa.table({name: data.draw(kinds) for name in names}), content)
    content = data.draw(st.just(content.getvalue()) | spoilt(content.getvalue()))
    _listed(folder, {"list.parquet": content}, lambda place: str(place / "list.parquet"))


@given(data=st.data())
@fuzzed(300)
def test_a_catalogue_that_is_nearly_right(folder, data):
    item = data.draw(st.just(json.dumps(ITEM).encode()) | altered(ITEM).flatmap(written) | values().flatmap(written))
    root = data.draw(st.just(json.dumps(ROOT).encode()) | altered(ROOT).flatmap(written))
    more = data.draw(st.dictionaries(st.sampled_from(sorted(FILTERS)), st.none(), max_size=2))
    said = {name: FILTERS[name] for name in more}
    _listed(
        folder, {"catalog.json": root, "one.json": item}, lambda place: {"stac": str(place / "catalog.json"), **said}
    )


@given(
    classes=altered([{"name": "sea", "value": 0, "colour": "#0000ff"}, {"name": "land", "index": 1}])
    | st.dictionaries(scalars(), scalars(), max_size=3)
    | st.lists(scalars(), max_size=4)
    | values()
)
@fuzzed(300)
def test_a_table_of_classes_of_anything(classes):
    card = lawful(Card.of, CARD | {"classes": classes}, "The card")
    if card is not None:
        assert len({one.value for one in card.classes}) == len(card.classes)
