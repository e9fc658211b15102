"""Scenes of a STAC catalogue: a static one, read document by document, or what an API's search gives, page by page.

Of a static catalogue the box, the time, the collections and a `query` are looked at here; an API does that itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flows.sources.item import reached, scene_of, taken_of
from flows.sources.listed import LeftOut, Listed
from pipeline.document import MISSHAPEN
from pipeline.errors import SceneError, SettingsError
from pipeline.origin import StacOrigin, span_of
from pipeline.raster.address import shown

Fields = Mapping[str, Any]
_SECONDS = (10, 60)  # to connect, to answer
_TRIES = 3
_PAGE = 100  # items of an answer
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, among: value in among,
    "startsWith": lambda value, text: str(value).startswith(text),
    "endsWith": lambda value, text: str(value).endswith(text),
    "contains": lambda value, text: text in str(value),
}


def items(origin: StacOrigin, left: LeftOut) -> Iterator[Listed]:
    """The scenes of a catalogue. Raises SceneError where it cannot be read; an item that is no scene is left out."""
    found = _found(origin)
    for count, (item, href) in enumerate(found, start=1):
        try:
            yield scene_of(item, href, origin)
        except SceneError as error:
            left.refuse(f"The item {item.get('id')} of {shown(origin.stac)} is left out: {error.message}.")
        except MISSHAPEN as error:
            said = " ".join(str(error).split())
            left.refuse(f"The item {item.get('id')} of {shown(origin.stac)} is no STAC item ({said}): it is left out.")
        if count == origin.max_items:
            return


def _found(origin: StacOrigin) -> Iterator[tuple[Fields, str | None]]:
    """(item, where it was read) for each item that is meant."""
    catalogue = Catalogue()
    root = catalogue.read(origin.stac)
    if any(link.get("rel") == "search" for link in _objects(root, "links", origin.stac)):
        yield from _searched(origin, catalogue)
        return
    if origin.filter is not None:
        raise SettingsError(f"{shown(origin.stac)} is a static catalogue, which knows no `filter`: say `query`.")
    for item, href in catalogue.items(root, origin.stac):
        with _told(href or origin.stac):
            meant = _is_meant(item, origin)
        if meant:
            yield item, href


class Catalogue:
    """Reads documents from files and from networks; each is forgotten as soon as what it names was read."""

    def __init__(self) -> None:
        from pystac_client.stac_api_io import StacApiIO  # noqa: PLC0415  # it takes a while, and is for STAC alone

        self.reader = StacApiIO(timeout=_SECONDS, max_retries=_TRIES)
        self._seen: set[str] = set()

    def read(self, href: str) -> dict[str, Any]:
        """A document. Raises SceneError where it cannot be read."""
        with _told(href):
            said = self.reader.read_json(href)
            if not isinstance(said, dict):
                raise ValueError("it is no STAC document")
            return said

    def items(self, document: Fields, href: str) -> Iterator[tuple[Fields, str | None]]:
        """(item, where it was read) of a document and of all below it; links that lead back are followed once."""
        kind = document.get("type")
        if kind == "Feature":
            yield document, href
        elif kind == "FeatureCollection":
            for item in _objects(document, "features", href):
                yield item, None
        elif kind in ("Catalog", "Collection"):
            self._seen.add(href)
            for link in _objects(document, "links", href):
                if link.get("rel") not in ("item", "child"):
                    continue
                with _told(href):
                    below = reached(link["href"], href)
                if below not in self._seen:
                    yield from self.items(self.read(below), below)
        else:
            raise SceneError(f"{shown(href)} is no STAC catalogue, collection or item: its type is {kind!r}.")


def _objects(document: Fields, key: str, href: str) -> list[Fields]:
    """What a document lists. Raises SceneError where it is no list of objects."""
    said = document.get(key) or []
    if not (isinstance(said, list) and all(isinstance(one, dict) for one in said)):
        raise SceneError(f"The STAC document {shown(href)} is none: its `{key}` are no list of objects.")
    return said


def _searched(origin: StacOrigin, catalogue: Catalogue) -> Iterator[tuple[Fields, str | None]]:
    from pystac_client import Client  # noqa: PLC0415  # as above

    with _told(origin.stac):
        search = Client.open(origin.stac, stac_io=catalogue.reader).search(
            collections=list(origin.collections) or None,
            bbox=origin.bbox,
            datetime=origin.datetime,
            query=origin.query,
            filter=origin.filter,
            max_items=origin.max_items,
            limit=min(_PAGE, origin.max_items or _PAGE),
        )
        for item in search.items_as_dicts():
            yield item, _self(item)


def _self(item: Fields) -> str | None:
    return next((link["href"] for link in item.get("links") or () if link.get("rel") == "self"), None)


def _is_meant(item: Fields, origin: StacOrigin) -> bool:
    """Whether an item of a static catalogue is asked for."""
    if origin.collections and item.get("collection") not in origin.collections:
        return False
    if origin.bbox and not (item.get("bbox") and _meet(item["bbox"], origin.bbox)):
        return False
    if origin.datetime:
        (first, last), taken = span_of(origin.datetime), taken_of(item)
        if taken is None or (first and taken[1] < first) or (last and taken[0] > last):
            return False
    return all(_holds(item["properties"].get(key), key, said) for key, said in (origin.query or {}).items())


def _meet(box: list[float], other: tuple[float, float, float, float]) -> bool:
    """Whether two boxes meet; one whose west is east of its east crosses the antimeridian."""
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    across = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    beside = any(begin <= other[2] and end >= other[0] for begin, end in across)
    return beside and south <= other[3] and north >= other[1]


def _holds(value: object, key: str, said: Fields) -> bool:
    for name, bound in said.items():
        if name not in _OPERATORS:
            raise SettingsError(f"`query` of a static catalogue has no {name} (of {key}): say {', '.join(_OPERATORS)}.")
        if value is None or not _OPERATORS[name](value, bound):
            return False
    return True


@contextmanager
def _told(href: str) -> Iterator[None]:
    """What a document cannot be read for, in a sentence without what a server sent."""
    from pystac.errors import STACError, STACTypeError  # noqa: PLC0415  # as above
    from pystac_client.exceptions import APIError, ParametersError  # noqa: PLC0415  # as above

    place = shown(href)
    try:
        yield
    except APIError as error:
        status = f"status {error.status_code}" if getattr(error, "status_code", None) else "no server answers there"
        raise SceneError(f"The STAC document {place} cannot be read: {status}.") from None
    except OSError as error:
        raise SceneError(f"The STAC document {place} cannot be read: {error.strerror or 'it is not there'}.") from None
    except (STACError, STACTypeError, ParametersError, NotImplementedError) as error:
        raise SceneError(
            f"The STAC API {place} does not do that: {' '.join(str(error).split()).rstrip('.')}."
        ) from None
    except SceneError as error:
        raise SceneError(f"The STAC document {place} cannot be read: {error.message.rstrip('.')}.") from None
    except MISSHAPEN as error:
        raise SceneError(f"The STAC document {place} is none: {' '.join(str(error).split())}.") from None
