"""What the morning must find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac

from tests.stack.night import SCENES


def demand(found: Mapping[str, Any]) -> None:
    """A night that its schedule made ended well although a worker died: everything is there, and no byte differs."""
    night = found["night"]
    assert night["auto_scheduled"]
    assert night["state"]["name"] == "Completed", night["state"]
    assert found["in_postgres"] >= 1
    assert found["unhappy"] == []
    assert found["went_on"]
    assert found["survivor"]
    assert {"prefect", "scheduler", "serve", "worker-b"} <= set(found["users"])
    assert found["as_root"] or 0 not in found["users"].values()
    assert {row["maskmill:state"] for row in found["index"]} == {"complete"}, found["index"]
    names = {name.replace("/", "--") for name in SCENES}
    assert set(found["masks"]) == names
    items = {item.id for item in pystac.Catalog.from_file(str(found["catalogue"])).get_items(recursive=True)}
    assert items == names
    assert found["masks"] == found["undisturbed"]
