"""Two tables of classes become one."""

from __future__ import annotations

from models.matched import table_of


def test_classes_are_matched_by_name_then_by_value_and_the_rest_is_said():
    table = table_of({0: "land", 1: "sea", 2: "ice"}, {0: "sea", 1: "land", 2: "snow", 7: "town"}, "uint8", "uint8")
    assert table.names[: table.classes] == ("land", "sea", "ice", "town")
    assert [int(table.b[value]) for value in (0, 1, 2, 7)] == [1, 0, 2, 3]
    assert table.notes == (
        "The value 2 is ice in A and snow in B: taken for the same.",
        "The class town is in B alone.",
    )
    assert table_of({0: "a", 5: "b"}, {0: "a"}, "uint8", "uint16").notes == ("The class b is in A alone.",)
