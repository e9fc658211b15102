"""STAC validation without a network: pystac's own core schemas, and what the extensions ask for, in our words.

The extensions' schemas lie on a web site. Here each field that we write is described again, from the specifications of
projection 2.0, classification 2.0, file 2.1, processing 1.2 and MLM 1.5; fields with their prefix that are not
described are errors.
"""

import json

from pystac.validation import validate_dict
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from pipeline import item

STRING, NUMBER, WHOLE = {"type": "string", "minLength": 1}, {"type": "number"}, {"type": "integer"}
NAME = {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"}


def _list(of, least=1, most=None):
    return {"type": "array", "items": of, "minItems": least} | ({"maxItems": most} if most else {})


def _object(required=(), **properties):
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


CLASS = _object(
    ("value", "name"),
    value=WHOLE,
    name=NAME,
    title=STRING,
    description=STRING,
    color_hint={"type": "string", "pattern": "^[0-9A-F]{6}$"},
    nodata={"type": "boolean"},
)
CLASSES = {"classification:classes": _list(CLASS)}
EXPRESSION = _object(("format", "expression"), format=STRING, expression={})
STRUCTURE = _object(
    ("shape", "dim_order", "data_type"),
    shape=_list({"type": "integer", "minimum": -1}),
    dim_order=_list({"enum": ["batch", "channel", "height", "width"]}),
    data_type={"enum": ["float32"]},
)
BAND_NAMES = _list(STRING, 0)
MLM_FIELDS = {
    "mlm:name": {"type": "string", "pattern": "^[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]$"},
    "mlm:architecture": STRING,
    "mlm:framework": {"const": "ONNX"},
    "mlm:tasks": _list({"const": "semantic-segmentation"}),
    "mlm:input": _list(
        _object(
            ("name", "bands", "input"),
            name=STRING,
            bands=BAND_NAMES,
            input=STRUCTURE,
            value_scaling={"type": ["array", "null"]},
            resize_type={"type": "null"},
            pre_processing_function={"type": "null"},
        )
    ),
    "mlm:output": _list(
        _object(
            ("name", "tasks", "result"),
            name=STRING,
            tasks=_list({"const": "semantic-segmentation"}),
            result=STRUCTURE,
            **CLASSES,
            post_processing_function={"type": "null"},
        )
    ),
}
FIELDS = {
    item.PROJECTION: {
        "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9]+$"},
        "proj:wkt2": {"type": ["string", "null"]},
        "proj:shape": _list(WHOLE, 2, 2),
        "proj:transform": _list(NUMBER, 6, 6),
        "proj:bbox": _list(NUMBER, 4, 4),
    },
    item.CLASSIFICATION: CLASSES,
    item.FILE: {
        "file:size": {"type": "integer", "minimum": 0},
        "file:checksum": {"type": "string", "pattern": "^1220[0-9a-f]{64}$"},
    },
    item.PROCESSING: {
        "processing:level": {"const": "L4"},
        "processing:lineage": STRING,
        "processing:software": {"type": "object", "additionalProperties": STRING},
        "processing:expression": EXPRESSION,
    },
    item.MLM: MLM_FIELDS | {"mlm:artifact_type": STRING},
}
REQUIRED = {item.MLM: ["mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"]}


def _schema(uri):
    prefix = next(iter(FIELDS[uri])).partition(":")[0]
    fields = {
        "type": "object",
        "properties": FIELDS[uri],
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }
    asset = {"allOf": [fields, {"properties": {"bands": {"type": "array", "items": fields}}}]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri,
        "type": "object",
        "required": ["properties", "assets"],
        "properties": {
            "stac_extensions": {"type": "array", "contains": {"const": uri}},
            "properties": {"allOf": [fields, {"required": REQUIRED.get(uri, [])}]},
            "assets": {"type": "object", "additionalProperties": asset},
        },
    }


def validator():
    """A validator for `pystac.validation.set_validator` that asks no network."""
    made = JsonSchemaSTACValidator()
    made.schema_cache |= {uri: json.loads(json.dumps(_schema(uri))) for uri in FIELDS}
    return made


def validate(said, path):
    """Validate an item or a catalog, given as a mapping, by pystac, as if it lay at a path."""
    return validate_dict(said, href=str(path), validator=validator())
