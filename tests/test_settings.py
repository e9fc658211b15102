"""Job files: what they may say, what is said of those that are wrong, and that nothing is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.document import load_job
from pipeline.errors import SettingsError
from pipeline.origin import BucketOrigin, FolderOrigin, ListOrigin, StacOrigin
from pipeline.settings import Device, Job, SceneEntry

LEAST = {"scenes": ["a.tif"], "model": "m", "out": "out"}


def written(folder: Path, said: object) -> Path:
    path = folder / "job.yaml"
    path.write_text(said if isinstance(said, str) else yaml.safe_dump(said))
    return path


def complaint(path: Path | None, /, **flags: object) -> str:
    """What is said of a wrong job: one sentence."""
    with pytest.raises(SettingsError) as caught:
        load_job(path, flags)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".") or caught.value.message.endswith("?")
    assert caught.value.__cause__ is None
    return caught.value.message


def test_a_job_file_says_all_that_flags_say(tmp_path):
    said = {
        **LEAST,
        "card": {"threshold": 0.25},
        "bands": [4, 3, 2],
        "aoi": {"file": "area.gpkg", "layer": "fields"},
        "device": "cpu",
        "precision": "fp16",
        "margin": 16,
        "overlap": 0.5,
        "resolution": 2.5,
        "window": 256,
        "block": 512,
        "batch": 2,
        "workers": 3,
        "threads": 4,
        "products": ["confidence", "probabilities"],
        "memory": "1.5G",
        "attempts": 1,
        "overwrite": True,
        "allow": ["tiles"],
        "grid": "coarsest",
        "cluster": {"class": "a.b.C", "arguments": {"cores": 4}, "adapt": {"minimum": 0, "maximum": 9}},
        "mixed": True,
        "settle": 2.5,
        "stop_at": "06:30",
        "timezone": "Europe/Vienna",
        "max_hours": 3.5,
        "until": "2026-05-01T06:00:00Z",
        "max_scenes": 10,
        "max_megapixels": 2.5,
        "priority": [{"area": "now.gpkg", "layer": "fire"}, {"field": "cloud", "first": "highest"}, "newest"],
        "mirror": "s3://bucket/nights",
        "store": {"endpoint": "https://store", "region": "eu", "requester_pays": True, "max_requests": 9},
        "golden": "trusted/scene",
        "expect_min": 2,
        "retry_after": 3,
        "reprocess": "all",
        "since": "2026-05-01",
        "price_per_hour": 2.4,
        "on_failure": {"command": ["./tell", "me"], "webhook": "$HOOK"},
    }
    assert set(said) == set(Job.model_fields)
    job = load_job(written(tmp_path, said), {})
    places = {"scenes": (str(tmp_path / "a.tif"),), "out": tmp_path / "out", "allow": (tmp_path / "tiles",)}
    places["aoi"] = {"file": str(tmp_path / "area.gpkg"), "layer": "fields"}
    places["golden"] = tmp_path / "trusted/scene"
    places["on_failure"] = {"command": [str(tmp_path / "tell"), "me"], "webhook": "$HOOK"}
    places["priority"] = [{"area": str(tmp_path / "now.gpkg"), "layer": "fire"}, *said["priority"][1:]]
    assert job == Job(**said | places)
    assert (job.device, job.margin, job.products) == (Device.CPU, 16, {"confidence", "probabilities"})
    assert job.memory == 3 * 2**29


def test_flags_lie_over_the_file_and_a_flag_that_was_not_given_does_not(tmp_path):
    path = written(tmp_path, {**LEAST, "window": 64, "batch": 2, "margin": "blend"})
    job = load_job(path, {"window": 128, "batch": None, "margin": "24", "scenes": ["b.tif"], "out": Path("there")})
    assert (job.window, job.batch, job.margin) == (128, 2, 24)
    assert (job.scenes, job.out) == (("b.tif",), Path("there"))  # a flag's path is relative to where the user is


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a.tif", "{here}/a.tif"),
        ("../a.tif", "{here}/../a.tif"),
        ("tiles/*.tif", "{here}/tiles/*.tif"),
        ("/data/a.tif", "/data/a.tif"),
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
    ],
)
def test_a_scenes_path_is_relative_to_the_job_file(tmp_path, said, meant):
    origins = [{"folder": said}, {"list": said}, {"stac": said}]
    job = load_job(written(tmp_path, {**LEAST, "scenes": [said, {"name": "x", "uri": said}, *origins]}), {})
    meant = meant.format(here=tmp_path)
    told = FolderOrigin(folder=meant), ListOrigin(list=meant), StacOrigin(stac=meant)
    assert job.scenes == (meant, SceneEntry(name="x", uri=meant), *told)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("earth-water", "earth-water"),  # a name of the zoo
        ("net.onnx", "{here}/net.onnx"),
        ("./folder", "{here}/folder"),
        ("/models/net.onnx", "/models/net.onnx"),
    ],
)
def test_a_model_is_a_zoo_name_or_a_path_relative_to_the_job_file(tmp_path, said, meant):
    assert load_job(written(tmp_path, {**LEAST, "model": said}), {}).model == meant.format(here=tmp_path)


@pytest.mark.parametrize(
    ("key", "near"),
    [("windwo", "window"), ("marign", "margin"), ("worker", "workers"), ("Product", "products"), ("scene", "scenes")],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(tmp_path, key, near):
    path = written(tmp_path, {**LEAST, key: 1})
    assert complaint(path) == f"In the job file {path}: there is no setting `{key}`; did you mean `{near}`?"


@given(key=st.text(max_size=12).filter(lambda key: key not in Job.model_fields))
def test_any_unknown_key_gets_a_sentence(tmp_path_factory, key):
    assert "did you mean" in complaint(None, **LEAST, **{key: 1})


@pytest.mark.parametrize("key", ["scenes", "model", "out"])
def test_what_is_missing_is_named(tmp_path, key):
    path = written(tmp_path, {name: value for name, value in LEAST.items() if name != key})
    assert f"the setting `{key}` is missing: " in complaint(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scenes": "a.tif"}, "`scenes` cannot be 'a.tif': say a list of paths"),
        ({"scenes": []}, "`scenes` cannot be []: say a list of paths"),
        ({"scenes": [3]}, "`scenes` cannot be 3: say a list of paths"),
        ({"scenes": [{"name": "a"}]}, "or of {name: north, uri: a/image.tif}"),
        ({"scenes": [{"name": "a", "uri": "b", "band": 1}]}, "or of {name: north, uri: a/image.tif}"),
        ({"scenes": [{"folder": "a", "patern": "b"}]}, "beside `folder` there is no `patern`; did you mean `pattern`?"),
        (
            {"scenes": ["x", {"stac": "c", "bbox": [1, 2, 0, 3]}]},
            "`stac` of an entry of `scenes` is not right: a bbox is",
        ),
        ({"scenes": [{"stac": "c", "datetime": "soon"}]}, "a datetime is 2026-05-01"),
        ({"scenes": [{"prefix": "http://x/"}]}, "`prefix` of an entry of `scenes` is not right"),
        ({"settle": -1}, "`settle` cannot be -1: say minutes, from 0"),
        ({"margin": "wide"}, "`margin` cannot be 'wide': say auto, exact, blend, or a number of pixels"),
        ({"margin": -1}, "`margin` cannot be -1"),
        ({"margin": 1.5}, "`margin` cannot be 1.5"),
        ({"device": "gpu"}, "`device` cannot be 'gpu': input should be 'auto', 'cpu' or 'cuda'"),
        ({"bands": [3, 0]}, "`bands` cannot be 0: say a list of band numbers from 1"),
        ({"bands": []}, "`bands` cannot be []"),
        ({"products": ["beauty"]}, "`products` cannot be 'beauty': say a list of some of confidence"),
        ({"memory": "much"}, "`memory` cannot be 'much': say a size such as 800M or 8G"),
        ({"model": ""}, "`model` cannot be '': say a zoo name"),
        ({"overlap": 0.9}, "`overlap` cannot be 0.9: input should be less than 0.9"),
        ({"overlap": float("nan")}, "`overlap` cannot be nan"),
        ({"window": 0}, "`window` cannot be 0"),
        ({"window": "big"}, "`window` cannot be 'big'"),
        ({"window": True}, "`window` cannot be True"),
        ({"attempts": 11}, "`attempts` cannot be 11"),
        ({"card": [1]}, "`card` cannot be [1]"),
        ({"out": 3}, "`out` cannot be 3"),
        ({"out": "ftp://bucket/x"}, "`out` cannot be an address: say the folder that is to hold"),
        ({"out": "/vsis3/bucket/x"}, "or s3://bucket/prefix, gs:// or az://"),
        ({"store": {"endpoint": "http://me:hush@host"}}, "`store` cannot be what it is: say {endpoint: https://"),
        ({"overwrite": "perhaps"}, "`overwrite` cannot be 'perhaps'"),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(tmp_path, wrong, said):
    assert said in complaint(written(tmp_path, LEAST | wrong))


def test_an_out_in_a_bucket_is_made_in_a_workshop_of_its_own(tmp_path):
    said = {**LEAST, "store": {"workshop": "shop"}}
    job = load_job(written(tmp_path, said), {"out": "s3://bucket/x/"})
    assert job.mirror == "s3://bucket/x"
    assert job.out.parent == tmp_path / "shop"
    assert Job.model_validate(job.model_dump(mode="json")) == job
    other = load_job(written(tmp_path, said), {"out": "s3://bucket/y"})
    assert other.out != job.out


def test_an_address_with_a_password_is_refused_and_not_repeated():
    assert "cannot be an address" in complaint(None, **LEAST | {"out": "s3://me:hush@bucket/x?key=hush"})
    assert "hush" not in complaint(None, **LEAST | {"out": "s3://me:hush@bucket/x?key=hush"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold keys and values"),
        ("- a.tif", "must hold keys and values"),
        ("scenes: [", "is not YAML"),
        ("\0", "is not YAML"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("window: 1\nwindow: 2", "`window` is said twice"),
        ("!!python/object:os.system {}", "is not YAML"),  # nothing in a job file is run
        ("1: 2", "there is no setting `1`"),
        ('scenes: ["\\ud800"]', "is not YAML"),  # half a character could not be printed
    ],
)
def test_what_is_no_job_file_is_told_in_one_sentence(tmp_path, text, said):
    assert said in complaint(written(tmp_path, text), **LEAST)


def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path):
    assert "cannot be read: No such file" in complaint(tmp_path / "none.yaml")
    assert "cannot be read: Is a directory" in complaint(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    assert "is not YAML" in complaint(path)


NUMBERS = st.none() | st.integers(1, 10**6)
WORDS = st.text(min_size=1)
ORIGINS = (
    st.builds(FolderOrigin, folder=WORDS, pattern=st.none() | WORDS, name=st.just("north"))
    | st.builds(BucketOrigin, prefix=st.sampled_from(["s3://a/b/", "gs://a", "az://a/"]))
    | st.builds(ListOrigin, list=WORDS)
    | st.builds(
        StacOrigin, stac=WORDS, assets=st.none() | WORDS | st.dictionaries(WORDS, WORDS, min_size=1, max_size=2)
    )
)
JOBS = st.builds(
    Job,
    scenes=st.lists(st.text() | st.builds(SceneEntry, name=st.text(), uri=st.text()) | ORIGINS, min_size=1, max_size=4),
    model=st.text(st.characters(exclude_characters="\0"), min_size=1),
    out=st.sampled_from([Path("out"), Path("/a/b c/ü")]),
    card=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans()), max_size=3),
    bands=st.none() | st.lists(st.integers(1, 20), min_size=1, max_size=4),
    device=st.sampled_from(Device),
    margin=st.sampled_from(["auto", "exact", "blend"]) | st.integers(0, 10**4),
    overlap=st.none() | st.floats(0, 0.9, exclude_min=True, exclude_max=True),
    window=NUMBERS,
    block=NUMBERS,
    batch=NUMBERS,
    workers=NUMBERS,
    products=st.frozensets(st.sampled_from(["confidence", "probabilities", "disagreement"])),
    memory=NUMBERS,
    attempts=st.integers(1, 10),
    settle=st.none() | st.floats(0, 1e6),
    overwrite=st.booleans(),
)


@given(JOBS)
def test_a_job_survives_json(job):
    again = Job.model_validate(json.loads(json.dumps(job.model_dump(mode="json"))))
    assert again == job
    assert again.deciding() == job.deciding()


@given(JOBS, JOBS)
def test_margin_overlap_and_products_alone_decide_pixels(one, other):
    same = (one.margin, one.overlap, one.products) == (other.margin, other.overlap, other.products)
    assert (one.deciding() == other.deciding()) == same
    assert json.loads(json.dumps(one.deciding())) == one.deciding()


def test_a_job_file_may_say_its_format_and_another_is_refused(tmp_path):
    assert load_job(written(tmp_path, {**LEAST, "format": 1}), {}) == load_job(written(tmp_path, LEAST), {})
    for told in (2, 0, True, "1", None):
        said = complaint(written(tmp_path, {**LEAST, "format": told}))
        assert f"is of format {told!r} and this version reads 1" in said
