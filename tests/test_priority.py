"""The order of scenes: by time, by what a source says, by an area; and as they are listed where that leaves it open."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine

from flows.archive import select
from flows.priority import Ranking
from flows.sources.listed import LeftOut, Listed, Stamp
from pipeline.document import load_job
from pipeline.errors import SettingsError
from pipeline.priority import FieldFirst
from pipeline.settings import Job, SceneEntry
from tests.images import noise, write_image


def job(**said):
    return Job(**{"scenes": ["a.tif"], "model": "earth-water", "out": "out", **said})


def order(folder, **said):
    found = select(job(out=folder / "out", settle=0, **said), LeftOut())
    return [due.entry.name for due in found.due], found


@pytest.fixture
def images(tmp_path):
    """Images side by side from west to east, a the youngest; a degree wide each."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place, name in enumerate("abcd"):
        transform = Affine(1 / 32, 0, 10 + place, 0, -1 / 32, 50)
        write_image(folder / f"{name}.tif", noise(1, 32, 32), crs="EPSG:4326", transform=transform)
        os.utime(folder / f"{name}.tif", (0, 1_700_000_000 - place))
    return folder


def square(folder, west, east):
    ring = [[west, 49.2], [east, 49.2], [east, 49.4], [west, 49.4], [west, 49.2]]
    path = folder / "area.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return path


def test_by_time_and_by_name_where_nothing_is_said(images):
    scenes = [{"folder": str(images)}]
    assert order(images, scenes=scenes)[0] == list("abcd")
    assert order(images, scenes=scenes, priority="newest")[0] == list("abcd")
    assert order(images, scenes=scenes, priority="oldest")[0] == list("dcba")


def test_of_more_than_a_run_may_begin_the_first_by_priority_are_begun(images):
    names, found = order(images, scenes=[{"folder": str(images)}], priority="oldest", max_scenes=3)
    assert (names, found.carried_over) == (list("dcb"), 1)


def test_an_area_comes_first_and_the_rest_by_what_follows(images):
    area = {"area": str(square(images.parent, 11.5, 12.5))}
    scenes = [{"folder": str(images)}]
    assert order(images, scenes=scenes, priority=area)[0] == list("bcad")
    assert order(images, scenes=scenes, priority=[area, "oldest"])[0] == list("cbda")
    (images / "a.tif").write_bytes(b"no image")
    assert order(images, scenes=scenes, priority=area)[0] == list("bcda")
    with pytest.raises(SettingsError, match="nowhere"):
        order(images, scenes=scenes, priority={"area": str(images / "nowhere.geojson")})


def test_a_box_that_a_catalogue_says_spares_opening_the_image(tmp_path):
    area = square(tmp_path, -179.9, -179.5)
    boxes = {"west": [-179.8, 49, -179, 50], "east": [179, 49, 179.9, 50], "across": [179, 49, 0, -179, 50, 9]}
    with Ranking(job(priority={"area": str(area)})) as ranking:
        ranks = {
            name: ranking.rank(Listed(SceneEntry(name=name, uri="https://nowhere.invalid/a.tif"), box=box))
            for name, box in boxes.items()
        }
        assert ranks["west"] == ranks["across"] < ranks["east"]
        assert ranks["east"] < ranking.rank(Listed(SceneEntry(name="gone", uri=str(tmp_path / "gone.tif"))))


def test_by_a_column_of_a_list(images):
    rows = ["uri,cloud", "a.tif,30", "b.tif,4.5", "c.tif,", "d.tif,100"]
    (images / "list.csv").write_text("\n".join(rows))
    scenes = [{"list": str(images / "list.csv")}]
    assert order(images, scenes=scenes, priority={"field": "cloud"})[0] == list("badc")
    assert order(images, scenes=scenes, priority={"field": "cloud", "first": "highest"})[0] == list("dabc")
    names, found = order(images, scenes=scenes, priority={"field": "clouds"})
    assert names == list("abcd")
    assert found.notes() == ["`priority` by the field clouds changes nothing: no scene that is due says it."]


def test_by_a_column_of_a_parquet_list(images):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"uri": [f"{name}.tif" for name in "abcd"], "urgent": [False, True, None, True], "other": [b""] * 4}
    pq.write_table(pa.table(table), images / "list.parquet")
    scenes = [{"list": str(images / "list.parquet")}]
    assert order(images, scenes=scenes, priority={"field": "urgent", "first": "highest"})[0] == list("bdac")


values = st.none() | st.floats(-1e9, 1e9) | st.text("ab1.-", max_size=4) | st.booleans()


@given(st.lists(values), st.sampled_from(["lowest", "highest"]))
def test_every_value_has_a_place_and_nothing_comes_last(said, first):
    ranking = Ranking(job(priority={"field": "key", "first": first}))
    entry = SceneEntry(name="a", uri="a.tif")
    ranked = sorted((ranking.rank(Listed(entry, fields={"key": value})), place) for place, value in enumerate(said))
    kinds = [kind_of(said[place]) for _, place in ranked]
    assert kinds == sorted(kinds)
    for kind in (0, 1):
        found = [comparable(said[place]) for _, place in ranked if kind_of(said[place]) == kind]
        assert found == sorted(found, reverse=first == "highest")


def kind_of(value):
    if value is None or value == "":
        return 2
    return int(isinstance(comparable(value), str))


def comparable(value):
    try:
        return float(str(value))
    except ValueError:
        return str(value)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))), st.integers(1, 5))
def test_those_that_are_begun_are_the_first_of_all(said, most):
    """However the scenes come, and however many are held at once."""
    from flows import archive

    queue = archive._Queue(most)
    ranks = [((0, 0, float(a), ()), (0, 0, float(b), ())) for a, b in said]
    for place, rank in enumerate(ranks):
        queue.put(rank, place)
        if place % 3 == 0:
            queue._cut()
    begun, over = queue.ended()
    assert begun == sorted(range(len(said)), key=lambda place: ranks[place])[:most]
    assert over == max(0, len(said) - most)


def test_a_scene_counts_as_new_by_when_it_was_taken():
    entry, day = SceneEntry(name="a", uri="a.tif"), datetime(2026, 5, 1, tzinfo=UTC)
    with Ranking(job(priority="newest")) as ranking:
        old_but_late = ranking.rank(Listed(entry, Stamp(modified=2e9), taken=day))
        assert ranking.rank(Listed(entry, Stamp(modified=day.timestamp() + 1))) < old_but_late
        assert old_but_late < ranking.rank(Listed(entry))


def test_a_job_file_names_an_area_beside_itself(tmp_path):
    (tmp_path / "job.yaml").write_text(
        "scenes: [a.tif]\nmodel: earth-water\nout: out\npriority: [{area: fire.gpkg, layer: now}, {field: cloud}]\n"
    )
    area, by_field = load_job(tmp_path / "job.yaml", {}).priority
    assert (area.file, area.layer) == (str(tmp_path / "fire.gpkg"), "now")
    assert by_field == FieldFirst(field="cloud")
    assert "fire" not in repr(area)


@pytest.mark.parametrize("wrong", ["best", {"field": ""}, {"field": "a", "first": "best"}, [{"area": 3}], [[]]])
def test_what_is_no_order_is_refused(wrong):
    with pytest.raises(SettingsError, match="priority"):
        load_job(None, {"scenes": ["a.tif"], "model": "earth-water", "out": "out", "priority": wrong})
