"""Job files of strangers: a job, or one sentence."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pipeline.document import load_job
from tests.fuzz.drawn import altered, scalars, values, written
from tests.fuzz.law import fuzz, fuzzed, lawful

pytestmark = fuzz
NOW = datetime(2026, 3, 28, 22, tzinfo=UTC)
JOB = {
    "scenes": [
        "a.tif",
        {"name": "b", "uri": "c.tif", "bands": {"red": {"file": "r.tif", "gain": 0.1}}},
        "s3://bucket/d.tif",
        'NETCDF:"e.nc":t',
        {"folder": "archive", "pattern": "**/*.tif"},
        {"prefix": "s3://bucket/new/", "name": "new"},
        {"list": "scenes.csv"},
        {"stac": "c.json", "bbox": [1, 2, 3, 4], "datetime": "2026-05", "query": {"a": {"lt": 2}}, "max_items": 3},
    ],
    "settle": 5,
    "stop_at": "06:00",
    "timezone": "Europe/Vienna",
    "max_hours": 6,
    "until": "2026-05-01T06:00:00Z",
    "max_scenes": 500,
    "max_megapixels": 1e6,
    "reprocess": "all",
    "since": "2026-05-01",
    "price_per_hour": 2.4,
    "on_failure": {"command": ["tell", "me"], "webhook": "https://host/hook"},
    "model": "./net.onnx",
    "out": "out",
    "card": {"name": "n", "bands": ["red", {"name": "nir", "index": 4}], "classes": ["a", "b"], "fill": 0.5},
    "bands": {"red": "*_B4.TIF", "nir": {"file": "*_B5.TIF", "band": 2, "gain": 0.1, "offset": 1}},
    "grid": "finest",
    "aoi": {"file": "a.gpkg", "layer": "fields"},
    "device": "cpu",
    "precision": "fp32",
    "margin": 64,
    "overlap": 0.5,
    "resolution": "model",
    "window": 256,
    "block": 1024,
    "batch": 2,
    "workers": 2,
    "threads": 1,
    "cluster": {"class": "a.B", "arguments": {"cores": 1}, "adapt": {"minimum": 0, "maximum": 8}},
    "mixed": False,
    "allow": ["/data"],
    "products": ["confidence"],
    "memory": "8G",
    "attempts": 3,
    "overwrite": False,
}


def _taken(folder, content, flags=None):
    """Read a job file as every command does, and begin its night."""
    file = folder / "job.yaml"
    file.write_bytes(content)
    job = lawful(load_job, file, flags or {})
    if job is not None:
        repr(job)
        lawful(job.begun, NOW)
    assert [path.name for path in folder.iterdir()] == ["job.yaml"]


@given(data=st.data())
@fuzzed(600)
def test_a_job_file_that_is_nearly_right(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "nearly"
    folder.mkdir(exist_ok=True)
    _taken(folder, data.draw(altered(JOB).flatmap(written)))


@given(content=written(JOB) | st.binary(max_size=200) | values().flatmap(written))
@fuzzed(200)
def test_a_job_file_of_anything(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "anything"
    folder.mkdir(exist_ok=True)
    _taken(folder, content)


@given(flags=st.dictionaries(st.sampled_from(sorted(JOB)), scalars() | values(), max_size=3))
@fuzzed(300)
def test_flags_of_anything(flags):
    said = {"scenes": ["a.tif"], "model": "net.onnx", "out": "out"} | flags
    lawful(load_job, None, said)
