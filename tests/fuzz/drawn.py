"""Documents that are nearly right: true ones, of which a few places are replaced, doubled, nested or taken out."""

from __future__ import annotations

import copy
import json
import math

import yaml
from hypothesis import strategies as st

_WORDS = (
    "", " ", ".", "..", "/", "~", "-", "--", "*", "?", "[", "a/b", "../a", "/dev/null", "\n", "\x00", "\x1b[31m", "é",
    "\u202e", "null", "true", "nan", "1e999", "0x10", "1_0", "٣", "²", "auto", "cuda", "bcyx", "NCHW", "none", "scene",
    "percentile", "#fff", "s3://a/b?c", "http://", "/vsimem/a", "{}", "%s", "{0}", "$HOME", "x" * 300, "9" * 400,
    "maskmill:says", "mlm:input",
)  # fmt: skip
_NUMBERS = (
    0, 1, -1, 2, 3, 253, 255, 65_536, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**40, 10**400, -(10**400),
    0.0, -0.0, 0.5, 1.5, 1e-300, 5e-324, 1e38, 1e39, 1e300, math.inf, -math.inf, math.nan,
)  # fmt: skip


def scalars():
    """What stands at a leaf: the values that parsers stumble on, and any other."""
    return st.one_of(
        st.sampled_from(_NUMBERS),
        st.sampled_from(_WORDS),
        st.none() | st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    )


def values():
    """Anything that JSON can say."""
    return st.recursive(
        scalars(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), inner, max_size=4)
        ),
        max_leaves=6,
    )


def _places(document, above=()):
    """The path of every place in a document, itself not among them."""
    held = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in held:
        yield (*above, key)
        yield from _places(value, (*above, key))


@st.composite
def altered(draw, document, times=3):
    """A document after one to three changes."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, times))):
        places = list(_places(document))
        if not places:
            return draw(values())
        *above, last = draw(st.sampled_from(places))
        holder = document
        for key in above:
            holder = holder[key]
        _change(draw, holder, last, document)
    return document


def _change(draw, holder, last, document):
    """Alter one place of the list or mapping that holds it."""
    what = draw(
        st.sampled_from(("replace", "replace", "number", "remove", "wrap", "unwrap", "move", "rename", "double"))
    )
    old = holder[last]
    if what == "replace":
        holder[last] = draw(values())
    elif what == "number":
        holder[last] = draw(st.sampled_from(_NUMBERS))
    elif what == "remove":
        del holder[last]
    elif what == "wrap":
        holder[last] = draw(st.sampled_from(([old], [[old]], {"name": old}, {"0": old}, [old, old], [])))
    elif what == "unwrap" and isinstance(old, list | dict) and old:
        holder[last] = next(iter(old.values())) if isinstance(old, dict) else old[0]
    elif what == "move":  # what belongs somewhere else
        found = document
        for key in draw(st.sampled_from(list(_places(document)))):
            found = found[key]
        holder[last] = copy.deepcopy(found)
    elif what == "rename" and isinstance(holder, dict):
        holder[draw(st.sampled_from(_WORDS) | st.text(max_size=6))] = holder.pop(last)
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(old))


@st.composite
def written(draw, document):
    """A document as YAML or JSON says it, now and then with an accident in its bytes."""
    text = draw(st.sampled_from((_yaml, json.dumps)))(document).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        at = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=3))
        text = text[:at] + piece + text[at + draw(st.integers(0, 3)) :]
    return text


@st.composite
def spoilt(draw, content):
    """A file's bytes after an accident: some wrong, some gone, some twice, or cut."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((1, 1, 4, 64, 4096))))
        piece, held = draw(st.binary(max_size=4)), content
        content = {
            "wrong": held[:start] + piece + held[end:],
            "gone": held[:start] + held[end:],
            "twice": held[:end] + held[start:end] + held[end:],
            "cut": held[:start],
            "zeros": held[:start] + bytes(end - start) + held[end:],
        }[draw(st.sampled_from(("wrong", "gone", "twice", "cut", "zeros")))]
    return content


_PIECES = (
    b"&a [*a]", b"*a", b"&a", b"!!python/name:os.system", b"!!python/object/apply:os.system [x]", b"!!binary x",
    b"!!timestamp 2", b"!!set {a}", b"!!int ''", b"!!float x", b"!!omap [a]", b"? [a]\n: b", b"? {a: b}\n: c",
    b"<<: *a", b"<<: 3", b"---\n", b"...\n", b"%YAML 9.9\n", b"{" * 2000,
    b"[" * 200_000, b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\t", b"'", b'"', b"\\ud800", b"\\u0000", b"NaN",
    b"-Infinity", b"1e999",
    b"9" * 5000, b"12:30:45", b"2001-99-99", b"0o9", b"0b2", b"190:20:30",
)  # fmt: skip


def _yaml(document):
    try:
        return yaml.safe_dump(document, allow_unicode=True)
    except (yaml.YAMLError, ValueError, OverflowError):
        return json.dumps(document)
