"""What Prefect is given to show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.shown import PICTURES, pictures_of, rows_of, words_of, worst_first
from tests.test_morning import ORDER, line, refused


def test_the_table_is_in_the_order_of_the_morning_and_says_why():
    bad = refused("bad") | {"reason": "It is at https://me:planted@host/a."}
    lines = [
        line("fine", pixels=50), line("again", state="complete already"), line("large", pixels=900),
        line("hole", state="holes", failed=1), line("holes", state="holes", failed=5), line("half", state="incomplete"),
        bad,
    ]  # fmt: skip
    said = {"scenes": lines, "problems": ["hole has a hole: block 3", "hole has more."], "exit_code": 3}
    left = [{"scene": "left", "what": "quarantined", "why": "It is at https://me:planted@host/b."}]
    rows = rows_of(worst_first(said), left)
    (alone,) = [at for at, row in enumerate(rows) if row["state"] == "quarantined"]
    assert {row["state"].split()[0] for row in rows[alone + 1 :]} == {"complete"}
    assert "complete" not in {row["state"].split()[0] for row in rows[:alone]}
    assert rows.pop(alone)["reason"] == "It is at https://me:***@host/b."
    assert [row["scene"] for row in rows] == [name for name in ORDER if name != "jumped"]
    assert {row["scene"]: row["failed blocks"] for row in rows}["holes"] == 5
    assert rows[0]["reason"] == "It is at https://me:***@host/a."
    assert {row["scene"]: row["reason"] for row in rows}["hole"] == "hole has a hole: block 3 And 1 more."


@given(st.integers(0, 300), st.integers(1, 40))
def test_no_table_and_no_list_grows_without_end(scenes, problems):
    lines = [line(f"s{at}") for at in range(scenes)]
    said = {"scenes": lines, "problems": ["Bad."] * problems, "exit_code": 3}
    assert len(rows_of(worst_first(said), [])) == min(200, scenes)
    left = [{"scene": f"q{at}", "what": "quarantined", "why": "Bad."} for at in range(problems)]
    assert len(rows_of(worst_first(said), left)) == min(200, scenes + problems)


def test_pictures_are_those_of_what_was_changed_and_few(tmp_path):
    lines = []
    for at in range(PICTURES + 3):
        folder = tmp_path / f"s{at}"
        folder.mkdir()
        Image.new("RGB", (300, 200), (at, 0, 0)).save(folder / "quicklook.png")
        lines.append(line(f"s{at}", state="complete already" if at == 0 else "complete") | {"out": str(folder)})
    text = pictures_of(worst_first({"scenes": lines, "problems": [], "exit_code": 0}))
    assert text.count("](data:image/") == PICTURES
    assert "**s0**" not in text
    assert pictures_of(worst_first({"scenes": [refused("bad")], "problems": [], "exit_code": 2})) == ""


def test_the_words_name_what_is_wrong_what_is_left_and_the_report(tmp_path):
    left = [{"scene": "b", "what": "quarantined", "why": "Its header is torn."}]
    text = words_of({"scenes": [], "problems": ["s3://b/a.tif?sig=planted is away."], "left": left}, tmp_path)
    assert "planted" not in text
    assert "- b: quarantined. Its header is torn." in text
    assert str(tmp_path / "report.html") in text
