"""What earlier nights made is what was written, bounded; what is damaged is as if it were not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.history import FOLDER, NIGHTS, RESULTS, Result, add_night, nights_of, remember, results_of
from pipeline.store.record import to_line


def result(number: int) -> Result:
    return Result(f"2026-11-{number % 28 + 1:02d}", "id", "model", 100, {"water": (number, 100.0 * number)})


def test_the_last_results_and_nights_are_kept(tmp_path):
    all_of = [result(number) for number in range(RESULTS + 5)]
    remember(tmp_path, "a", all_of)
    assert results_of(tmp_path, "a") == all_of[-RESULTS:]
    assert results_of(tmp_path, "b") == []
    for number in range(NIGHTS + 3):
        add_night(tmp_path, [{"format": 1, "n": k} for k in range(number)], {"n": number})
        if number == 2:
            assert [one["n"] for one in nights_of(tmp_path)] == [0, 1, 2]
    assert [one["n"] for one in nights_of(tmp_path)] == list(range(3, NIGHTS + 3))


@given(st.data())
def test_a_damaged_line_costs_itself_alone(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("history")
    add_night(folder, [{"format": 1, "n": 0}, {"format": 1, "n": 1}], {"n": 2})
    path = folder / FOLDER / "nights.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at, where = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 20))
    torn = bytearray(lines[at])
    torn[where] ^= 0x01
    path.write_bytes(b"".join([*lines[:at], bytes(torn), *lines[at + 1 :]]))
    assert [one["n"] for one in nights_of(folder)] == [n for n in range(3) if n != at]


def test_a_later_format_is_refused_with_both_numbers(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "nights.jsonl").write_bytes(to_line({"format": 2}))
    with pytest.raises(SettingsError, match=r"is of format 2 and this version reads 1"):
        nights_of(tmp_path)


def test_no_folder_for_results_is_made(tmp_path):
    with pytest.raises(SettingsError):
        add_night(tmp_path / "gone", [], {})
    assert not (tmp_path / "gone").exists()


def test_shares_are_of_what_the_network_told_of():
    assert result(12).shares == {"water": 0.12}
    assert Result("", "", "", 0, {"water": (0, None)}).shares == {}
    assert result(1).same(Result("later", "id", "model", 100, {"water": [1, 100.0]}))
    assert not result(1).same(result(2))
