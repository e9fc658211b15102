"""The commands for a folder of results: what they print and how they end."""

from __future__ import annotations

import json

import numpy as np

from flows.cli import app
from tests.oracle import tree
from tests.test_compare import put


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_clean_says_what_it_would_do_and_does_it(tmp_path, capsys):
    (tmp_path / "begun" / "ledger").mkdir(parents=True)
    (tmp_path / "begun" / "ledger" / "journal.jsonl").write_bytes(b"12345")
    (tmp_path / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    assert app(["clean", str(tmp_path), "--dry-run", "--json"], standalone_mode=False) == 0
    would = said(capsys)
    assert tree(tmp_path) == before
    assert (would["bytes"], would["dry_run"]) == (5, True)
    assert app(["clean", str(tmp_path)], standalone_mode=False) == 0
    words = capsys.readouterr().out
    assert "begun" in words
    assert "mine.txt" in words
    assert set(tree(tmp_path)) == {"mine.txt"}


def test_compare_prints_draws_and_ends_with_3_where_a_scene_was_not_compared(tmp_path, capsys):
    for side, shape in (("a", (20, 30)), ("b", (20, 31))):
        put(tmp_path / side / "fine", np.zeros((20, 30), np.uint8), {0: "land", 1: "sea"})
        put(tmp_path / side / "moved", np.zeros(shape, np.uint8), {0: "land"})
    folders = [str(tmp_path / side) for side in "ab"]
    assert app(["compare", *folders, "--json", "--out", str(tmp_path / "page.html")], standalone_mode=False) == 3
    found = said(capsys)
    assert (found["agreement"], found["exit_code"], len(found["problems"])) == (1.0, 3, 1)
    assert "20 × 31 px" in (tmp_path / "page.html").read_text()
    assert app(["compare", str(tmp_path / "a" / "fine"), str(tmp_path / "b" / "fine")], standalone_mode=False) == 0
    assert "100.0000% agree" in capsys.readouterr().out
