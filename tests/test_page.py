"""One file without network or script, whatever words are put into it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.page import PICTURE_BYTES, Number, Raw, facts, figure, listed, page, section, small, spark, table

FRAME = {"html", "head", "meta", "title", "style", "body", "section", "h2", "div", "b"}
ELEMENTS = FRAME | {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "figure", "img", "figcaption"}


class Seen(HTMLParser):
    """The elements, their attributes and the text of a page; an end that fits no beginning is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.values, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [(name, value) for name, value in attrs]
        if tag not in {"meta", "img", "polyline"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "polyline":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


# \r and \0 are other characters to every reader of HTML; surrogates are none at all
words = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), min_size=1)


@given(words)
def test_words_are_words_wherever_they_stand(said):
    everything = [
        section(said, table((said, said), [[said, Number(said)]])),
        section("a list", listed([said])),
        facts([(said, said)]),
        figure(b"", said),
    ]
    seen = Seen(page(said, *everything).decode())
    assert set(seen.tags) <= ELEMENTS
    assert "".join(seen.words).count(said) >= 8
    assert ("alt", said) in seen.values


def test_the_page_asks_for_nothing_from_anywhere():
    text = page("a", figure(small(Image.new("RGB", (50, 40))), "a"), spark([1, 2])).decode()
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert "default-src &#x27;none&#x27;" in text
    assert "prefers-color-scheme:dark" in text
    assert "width=device-width" in text


def test_what_is_empty_is_left_out():
    assert section("a", Raw(""), table(("a",), []), listed([])) == ""
    assert spark([1.0]) == ""


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20))
def test_a_line_of_results_stays_in_its_frame(values):
    points = re.search(r'points="([^"]+)"', spark(values))[1].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    assert len(places) == len(values)
    assert all(0 <= x <= 72 and 0 <= y <= 16 for x, y in places)
    assert places == sorted(places, key=lambda one: one[0])


def test_pictures_are_small_whatever_they_show(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    made = small(Image.fromarray(noise))
    assert len(made) <= PICTURE_BYTES
    assert Image.open(BytesIO(made)).format == "JPEG"
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    assert small(tmp_path / "torn.png") is None
    assert small(tmp_path / "none.png") is None
