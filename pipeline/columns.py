"""The columns of the index: those that stac-geoparquet 1.0 and GeoParquet 1.1 ask for, and ours.

A STAC property is a column of its own, as are our `maskmill:*`; links and assets are nested, each asset by its name.
"""

from __future__ import annotations

import json

import pyarrow as pa

FORMAT = b"1"

_TIME = pa.timestamp("us", tz="UTC")
_CLASSES = pa.list_(
    pa.struct(
        [
            ("value", pa.int64()),
            ("name", pa.string()),
            ("title", pa.string()),
            ("description", pa.string()),
            ("color_hint", pa.string()),
            ("nodata", pa.bool_()),
        ]
    )
)
_LINKS = pa.list_(pa.struct([(key, pa.string()) for key in ("href", "rel", "type", "title", "mlm:name")]))
_SOURCES = pa.list_(pa.struct([("address", pa.string()), ("size", pa.int64()), ("version", pa.string())]))
_COUNTS = pa.list_(
    pa.struct([("value", pa.int64()), ("name", pa.string()), ("pixels", pa.int64()), ("area", pa.float64())])
)
_FILE = [
    *((key, pa.string()) for key in ("href", "type", "title")),
    ("roles", pa.list_(pa.string())),
    ("file:size", pa.int64()),
    ("file:checksum", pa.string()),
]


_RASTER = [
    *_FILE,
    ("data_type", pa.string()),
    ("nodata", pa.int64()),  # of floats it is NaN, which no column of whole numbers holds, and is left out
    ("bands", pa.list_(pa.struct([("name", pa.string()), ("classification:classes", _CLASSES)]))),
    ("classification:classes", _CLASSES),
    ("mlm:name", pa.string()),
    ("processing:expression", pa.struct([("format", pa.string()), ("expression", pa.string())])),
]
_ASSETS = pa.struct(
    [
        *((name, pa.struct(_RASTER)) for name in ("mask", "values", "confidence", "probabilities", "disagreement")),
        *((name, pa.struct(_FILE)) for name in ("zarr", "quicklook", "outlines", "report")),
    ]
)
BOX = ("xmin", "ymin", "xmax", "ymax")
_SOFTWARE = pa.struct([(key, pa.string()) for key in ("maskmill", "onnxruntime", "rasterio", "GDAL")])
_COLUMNS = [
    ("id", pa.string()),
    ("type", pa.string()),
    ("stac_version", pa.string()),
    ("stac_extensions", pa.list_(pa.string())),
    ("geometry", pa.binary()),
    ("bbox", pa.struct([(side, pa.float64()) for side in BOX])),
    ("links", _LINKS),
    ("assets", _ASSETS),
    ("datetime", _TIME),
    ("created", _TIME),
    ("gsd", pa.float64()),
    ("proj:code", pa.string()),
    ("proj:wkt2", pa.string()),
    ("proj:shape", pa.list_(pa.int64())),
    ("proj:transform", pa.list_(pa.float64())),
    ("proj:bbox", pa.list_(pa.float64())),
    ("processing:level", pa.string()),
    ("processing:lineage", pa.string()),
    ("processing:software", _SOFTWARE),
    *(
        (f"maskmill:{key}", pa.string())
        for key in ("item", "state", "reason", "datetime_from", "place", "identity", "fingerprint", "model", "card")
    ),
    ("maskmill:sources", _SOURCES),
    *((f"maskmill:{key}", pa.int64()) for key in ("blocks", "failed", "pending", "nights")),
    ("maskmill:megapixels", pa.float64()),
    ("maskmill:classes", _COUNTS),
]
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["Polygon", "MultiPolygon"],
            "covering": {"bbox": {side: ["bbox", side] for side in BOX}},
        }
    },
}
SCHEMA = pa.schema(
    _COLUMNS,
    metadata={
        b"geo": json.dumps(_GEO).encode(),
        b"stac-geoparquet": json.dumps({"version": "1.0.0"}).encode(),
        b"maskmill": FORMAT,
    },
)
