from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.raster.levels import Level, believed

ONE = (Fraction(1), Fraction(1))


@given(
    st.integers(40, 90_000),
    st.integers(40, 90_000),
    st.integers(2, 5),
    st.integers(1, 4),
    st.sampled_from(["floor", "ceil", "round"]),
)
def test_a_pyramid_of_whole_factors_is_believed_however_its_sides_were_rounded(rows, cols, base, count, rounding):
    shapes = [(rows, cols)]
    for level in range(1, count):
        factor = base**level
        if min(rows, cols) < 8 * factor:  # of sides of few pixels, several factors can be meant
            break
        plus = {"floor": 0, "ceil": factor - 1, "round": factor // 2}[rounding]
        shapes.append(((rows + plus) // factor, (cols + plus) // factor))
    levels, notes = believed(shapes)
    assert not notes
    assert [level.number for level in levels] == list(range(len(shapes)))
    if min(rows, cols) >= 2 * (base ** (len(shapes) - 1)) ** 2:  # no other whole number then rounds to these sides
        assert [level.scale for level in levels] == [(Fraction(1, base**n),) * 2 for n in range(len(shapes))]
    for level, shape in zip(levels, shapes, strict=True):
        assert all(
            abs(side * part - got) <= 1
            for side, part, got in zip((rows, cols), level.scale, (level.height, level.width), strict=True)
        )
        assert (level.height, level.width) == shape


def test_levels_out_of_order_and_pictures_of_something_else_are_left_out():
    shapes = [(2967, 2220), (494, 370), (1483, 1110), (768, 574), (431, 1280), (185, 138)]
    levels, notes = believed(shapes)
    assert [(level.number, level.scale) for level in levels] == [
        (0, ONE),
        (1, (Fraction(1, 6),) * 2),
        (5, (Fraction(1, 16),) * 2),
    ]
    assert [note.split(",")[0] for note in notes] == [f"Level {number} of the slide" for number in (2, 3, 4)]
    assert "not smaller than level 1" in notes[0]
    assert "not smaller than level 1" in notes[1]
    assert "no picture of the 2967 × 2220 pixels" in notes[2]


def test_a_factor_that_is_no_whole_number_is_the_quotient_of_the_sides():
    levels, _ = believed([(1000, 3000), (400, 1200)])
    assert levels[1].scale == (Fraction(2, 5), Fraction(2, 5))


def test_a_level_is_never_finer_than_the_finest():
    assert [level.number for level in believed([(10, 10), (20, 20), (10, 10)])[0]] == [0]
    with pytest.raises(ValueError, match="level 1"):
        Level(1, 4, 4, (Fraction(2), Fraction(1)))
