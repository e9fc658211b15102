"""What the values of two masks mean together: classes are the same where their names are, else where their values are.

Whatever is not the same in both masks is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import statuses


@dataclass(frozen=True, slots=True)
class Table:
    """What the values of two masks mean: one list of names for both, for each mask a name's number by value.

    The last names are those of pixels without a class.
    """

    names: tuple[str, ...]
    classes: int
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    notes: tuple[str, ...]


def table_of(a: Mapping[int, str], b: Mapping[int, str], *dtypes: str) -> Table:
    """One list of names for two masks' classes by value, of these types."""
    names, notes = list(dict.fromkeys(a.values())), []
    places_a = {value: names.index(name) for value, name in a.items()}
    places_b = {value: names.index(name) for value, name in b.items() if name in names}
    taken = set(places_b.values())
    for value, name in b.items():
        if value in places_b:
            continue
        if value in places_a and places_a[value] not in taken:
            places_b[value] = places_a[value]
            notes.append(f"The value {value} is {a[value]} in A and {name} in B: taken for the same.")
        else:
            places_b[value] = len(names)
            names.append(name)
            notes.append(f"The class {name} is in B alone.")
        taken.add(places_b[value])
    notes += [f"The class {name} is in A alone." for place, name in enumerate(names) if place not in taken]
    classes = len(names)
    luts = []
    for dtype, places in zip(dtypes, (places_a, places_b), strict=True):
        lut = np.full(np.iinfo(dtype).max + 1, classes + 3, np.int64)  # a value that no table has
        for number, value in enumerate(sorted(statuses(dtype).named())):
            lut[value] = classes + number
        for value, place in places.items():
            lut[value] = place
        luts.append(lut)
    return Table((*names, "failed", "outside", "no data", "no class"), classes, luts[0], luts[1], tuple(notes))
