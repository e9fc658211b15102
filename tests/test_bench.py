"""The benchmark's own arithmetic; the peers are not run here."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.network.field import field_of
from tests.bench import report, results
from tests.bench.networks import article, threshold
from tests.bench.results import Book, medians, ratios

seconds = st.floats(0.1, 1000)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=7), st.floats(0.1, 10))
def test_what_slows_a_whole_round_changes_no_ratio(rounds, slower):
    figures = [{"maskmill": {"whole": ours}, "loop": {"whole": theirs}} for ours, theirs in rounds]
    loaded = [{peer: {"whole": slower * one["whole"]} for peer, one in figures[0].items()}, *figures[1:]]
    assert ratios(loaded, "whole") == pytest.approx(ratios(figures, "whole"))
    assert ratios(figures, "whole")["maskmill"] == 1


def test_a_median_is_over_the_rounds_that_have_the_figure():
    rounds = [{"a": {"whole": 3.0}, "b": {"whole": 1.0}}, {"a": {"whole": 5.0, "peak": 7}}, {"a": {"whole": 4.0}}]
    assert medians(rounds) == {"a": {"whole": 4.0, "peak": 7}, "b": {"whole": 1.0}}
    assert ratios(rounds, "whole", to="a") == {"a": 1, "b": 1 / 3}


def test_a_book_goes_on_with_the_same_settings_and_begins_anew_with_others(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    Book("peers", "net", {"crop": (1, 2)}, "first").add({"a": {"whole": 1.0}})
    again = Book("peers", "net", {"crop": (1, 2)}, "second")
    assert (again.said["command"], len(again.said["rounds"])) == ("first", 1)
    other = Book("peers", "net", {"crop": (1, 3)}, "third")
    assert (other.said["command"], other.said["rounds"]) == ("third", [])
    other.note(parity=0.0)
    assert json.loads((tmp_path / "peers-net.json").read_text())["command"] == "third"


def book(part="peers", **more):
    def ran(whole):
        return {"whole": whole, "inside": whole - 1, "peak": 2**30, "blocks": whole - 2}

    rounds = [{name: ran(whole) for name, whole in more.pop("peers").items()}]
    settings = {"rows": 1000, "cols": 3000, "kind": "exact", "crop": [0, 0, 1000]}
    said = {"part": part, "network": "net", "settings": settings, "rounds": rounds, "busy": [1.0], "date": "2026-01-01"}
    return said | {"machine": results.machine(), "command": "python -m tests.bench"} | more


def test_the_page_says_rates_ratios_and_differing_pixels_per_million():
    facts = {"loop": {"window": 512, "overlap": 128, "versions": {"rasterio": "1"}, "differing": 30}}
    peers = book(peers={"maskmill": 10.0, "loop": 15.0}, facts=facts, failed={"other": "it\nended badly"})
    said = report.page([book("workers", peers={"1": 8.0, "2": 5.0}), peers], "## Where we lose\n\nHere.\n")
    assert "| `loop` | 15.0 (15.0 to 15.0) | 14.0 | 0.20 | 1.50 | 1.56 | 1024 | 512, 128 | 30.0 |" in said
    assert "`other` failed: ended badly" in said
    assert "| the blocks | 6.0 | 3.0 | 2.00 × |" in said
    assert said.index("## Peers: net") < said.index("## Two workers") < said.index("## Where we lose")


def test_the_bare_network_has_no_command_and_its_seconds_inside_are_held_against_the_whole_of_maskmill():
    rows = {row["peer"]: row for row in report.rows_of(book(peers={"bare": 7.0, "maskmill": 12.0}))}
    assert (rows["bare"]["whole"], rows["bare"]["× whole"]) == (6.0, 0.5)


def test_the_plot_is_a_picture():
    root = ET.fromstring(report.plot([book(peers={"maskmill": 10.0, "loop": 15.0})]))
    assert root.tag.endswith("svg")
    assert len([one for one in root if one.tag.endswith("rect")]) == 3  # the ground and two bars


def test_the_article_s_network_looks_as_far_as_its_receptive_field_says():
    field = field_of(article(), None)
    assert (field.stride, field.bounded) == (4, True)
    assert 20 <= field.reach <= 23


def test_the_threshold_is_one_node_and_says_which_pixels_are_above_127():
    model = threshold()
    assert len(model.graph.node) == 1
    pixels = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)
    said = ort.InferenceSession(model.SerializeToString()).run(None, {"image": pixels})[0]
    assert np.array_equal(said.argmax(1)[0], pixels[0, 0] > 127)
