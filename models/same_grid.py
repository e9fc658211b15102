"""Whether two rasters have the same pixels: size, CRS and place."""

from __future__ import annotations

from rasterio.io import DatasetReader

from pipeline.errors import SettingsError

NEAR = 1e-6  # of a pixel: a difference of transforms that is rounding


def demand_same_grid(a: DatasetReader, b: DatasetReader, called: tuple[str, str], remedy: str) -> None:
    """Raise SettingsError, with the numbers, where two open files, so called in it, are not of one grid."""
    first, second = called
    if a.shape != b.shape:
        sizes = [f"{file.height} × {file.width} px" for file in (a, b)]
        raise SettingsError(f"{first} is {sizes[0]} and {second} is {sizes[1]}: {remedy}.")
    if a.crs != b.crs:
        raise SettingsError(f"{first} is in {_short(a.crs)} and {second} is in {_short(b.crs)}: {remedy}.")
    if not a.transform.almost_equals(b.transform, NEAR * abs(a.transform.a)):
        one, other = (", ".join(f"{number:.10g}" for number in tuple(file.transform)[:6]) for file in (a, b))
        raise SettingsError(f"{first} lies at ({one}) and {second} at ({other}): {remedy}.")


def has_place(file: DatasetReader) -> bool:
    """Whether a file says where its pixels lie."""
    return file.crs is not None or not file.transform.is_identity


def _short(crs: object) -> str:
    return str(crs)[:60] if crs else "no CRS"
