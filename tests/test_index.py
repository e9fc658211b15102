"""The index: rows by name whatever was written before, and found by name."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import index
from pipeline.errors import SettingsError
from pipeline.index import NAME, Writer, read_index
from pipeline.item import item_of
from pipeline.result import Result, Standing

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=4).filter(lambda name: not name.startswith("."))


def write(out, keep, said, without=()):
    """Write an index of (name, nights), some rows at a time."""
    with Writer(out, keep, without) as writer:
        rows = [
            (item_of(Result(name, Standing.REFUSED, "for a test", nights), ".", "."), None) for name, nights in said
        ]
        for start in range(0, len(rows), 2):
            writer.add(rows[start : start + 2])
        writer.commit()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.dictionaries(NAMES, st.integers(0, 9)), st.sets(NAMES)), max_size=3),
    st.integers(1, 5),
    st.lists(NAMES),
)
def test_any_updates_give_the_rows_that_a_mapping_would_have(tmp_path, monkeypatch, updates, group, asked):
    """Asked for in any order, of few at once or many."""
    monkeypatch.setattr(index, "ROWS", group)
    monkeypatch.setattr(index, "NEAR", group)
    expected = {}
    (tmp_path / NAME).unlink(missing_ok=True)
    for number, (said, gone) in enumerate(updates):
        write(tmp_path, number > 0, sorted(said.items()), without=[*said, *gone])
        expected = {name: nights for name, nights in expected.items() if name not in gone} | said
        found = read_index(tmp_path)
        assert found.names == sorted(expected)
        assert {name: found.get(name).nights for name in found.names} == expected
        assert {name: found.get(name).nights for name in asked if name in found} == {
            name: expected[name] for name in asked if name in expected
        }
        assert found.column("nights") == [expected[name] for name in sorted(expected)]
        assert all(name in found for name in expected)
    assert [entry.name for entry in tmp_path.iterdir()] in ([NAME], [])


def test_what_is_not_committed_leaves_the_old(tmp_path):
    write(tmp_path, False, [("a", 1)])
    before = (tmp_path / NAME).read_bytes()
    with Writer(tmp_path, True, ["a"]) as writer:
        writer.add([])
    assert (tmp_path / NAME).read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [NAME]


def test_what_is_no_index_of_ours_is_none(tmp_path):
    assert read_index(tmp_path) is None
    for data in (b"", b"PAR1", b"PAR1 and nothing that is Parquet PAR1"):
        (tmp_path / NAME).write_bytes(data)
        assert read_index(tmp_path) is None


def test_a_disk_that_refuses_is_a_sentence(tmp_path):
    (tmp_path / NAME).symlink_to(NAME)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_index(tmp_path)
