"""What is secret is in nothing that is written, printed or shown: secrets are planted, and looked for everywhere."""

from __future__ import annotations

import json
import sqlite3

import pyarrow.parquet as pq
import pytest

from flows.masking import demand_no_secret, masked, without_secrets
from pipeline.document import load_job
from pipeline.errors import SettingsError
from pipeline.night import Notice
from tests.mill import maskmill, world, write_job
from tests.served import served
from tests.test_plan import scene as scene_of

SIGNED = "?X-Amz-Credential=planted-1&X-Amz-Signature=planted-2&sig=planted-3&token=planted-4"
KEYS = {
    "AWS_ACCESS_KEY_ID": "planted-5",
    "AWS_SECRET_ACCESS_KEY": "planted-6",
    "AWS_SESSION_TOKEN": "planted-7",
    "AZURE_STORAGE_ACCESS_KEY": "planted-8",
    "PREFECT_API_KEY": "planted-9",
}
CLUSTER = {
    "class": "tests.nowhere.Cluster",
    "arguments": {"token": "planted-10", "options": ["--password=planted-11"], "env": {"API_KEY": "planted-12"}},
}


def signed(url, name="scene0.tif"):
    """An address with a password and a signature."""
    return f"{url.replace('://', '://me:planted-13@')}/{name}{SIGNED}"


def catalogue(folder, url):
    """A STAC catalogue whose one item has a signed address."""
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": "listed", "geometry": None, "links": [],
        "properties": {"datetime": "2026-05-01T00:00:00Z"},
        "assets": {"image": {"href": signed(url), "roles": ["data"], "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip
    link = {"rel": "item", "href": "./listed.json"}
    root = {"type": "Catalog", "stac_version": "1.1.0", "id": "root", "description": "x", "links": [link]}
    (folder / "listed.json").write_text(json.dumps(item))
    (folder / "catalog.json").write_text(json.dumps(root))


def held(folder):
    """All that was written into a folder, as bytes: of Parquet, what its columns hold."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pydict()).encode()
        elif path.is_file():
            yield path, path.read_bytes()


def demand_clean(where, *texts):
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        at = content.find(b"planted")
        assert at < 0, (where, content[max(0, at - 200) : at + 50])


@pytest.fixture
def places(tmp_path):
    """Folders: of images, of the job, and of all that commands write."""
    made = {name: tmp_path / name for name in ("images", "work", "home")}
    for folder in made.values():
        folder.mkdir()
    return made


def _commands(warm, places, *commands):
    home = places["home"]
    env = {**KEYS, "HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": home / "cache"}
    for command in commands:
        done = warm.run(*command, cwd=places["work"], **env)
        demand_clean(command, done.stdout, done.stderr)
        yield done


FEW = (("run", "--job", "one.yaml", "--json"), ("run", "--job", "job.yaml"))
COMMANDS = (
    *FEW,
    ("run", "--job", "job.yaml", "--json"),
    ("run", "--job", "job.yaml", "--dry-run"),
    ("run", "list.csv", "--job", "one.yaml"),
    ("plan", "--job", "job.yaml", "--json"),
    ("plan", "--job", "one.yaml"),
    ("run", "--job", "cluster.yaml"),
    ("run", "--job", "wrong.yaml"),
    ("status", "../home/out", "--json"),
    ("catalogue", "../home/out", "--json"),
    ("schedule", "one.yaml", "--cron", "0 2 * * *"),
    ("models", "check", "../images/net.onnx", "list.csv"),
)


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["few", "all"])
def test_no_command_says_or_writes_a_secret(warm, places, few):
    job = world(places["images"])
    job |= {"model": str(places["images"] / "net.onnx"), "out": str(places["home"] / "out")}
    with served(places["images"]) as server:
        catalogue(places["work"], server.url)
        good = signed(server.url)
        lost = [signed(server.url, "lost.tif"), "s3://me:planted@nowhere/a.tif?sig=planted", "ftp://a:planted@b/c.tif"]
        job["scenes"] = [good, *lost, {"stac": "catalog.json", "assets": {"red": "image"}}]
        write_job(places["work"], job)
        write_job(places["work"], job | {"scenes": [good]}, "one.yaml")
        write_job(places["work"], job | {"cluster": CLUSTER, "overwrite": True}, "cluster.yaml")
        write_job(places["work"], job | {"cluster": CLUSTER | {"clas": 1}}, "wrong.yaml")
        (places["work"] / "list.csv").write_text(f"uri,name\n{good},a/b\n")
        out = places["home"] / "out"
        ran, *_ = _commands(warm, places, *(FEW if few else COMMANDS), ("verify", out / "scene0", "--sample", "1"))
    assert ran.returncode == 0, ran.stderr
    for path, content in held(places["home"]):
        demand_clean(path, content)


def test_no_repr_says_a_secret():
    said = load_job(None, WITH | {"scenes": [signed("https://host"), {"name": "a", "uri": signed("s3://bucket")}]})
    said = said.model_copy(update={"cluster": load_job(None, WITH | {"cluster": CLUSTER}).cluster})
    demand_clean("repr", repr(said), str(said), repr(said.cluster), str(said.cluster), repr(said.scenes[1]))
    scene = scene_of(uri=signed("/vsicurl/http://host"))
    demand_clean("repr", repr(scene), str(scene))


@pytest.mark.slow
def test_prefect_holds_no_secret(places):
    job = world(places["images"])
    with served(places["images"]) as server:
        job["scenes"] = [signed(server.url), signed(server.url, "lost.tif")]
        write_job(places["images"], job)
        more = {**KEYS, "PREFECT_HOME": str(places["home"]), "HOME": str(places["home"])}
        more.pop("PREFECT_API_KEY")  # of a server elsewhere
        done = maskmill("run", "--job", "job.yaml", "--prefect", "--json", cwd=places["images"], **more)
    assert done.returncode == 3, done.stderr
    demand_clean("run --prefect", done.stdout, done.stderr)
    with sqlite3.connect(places["home"] / "prefect.db") as database:
        demand_clean("prefect.db", *database.iterdump())
        assert database.execute("select count(*) from flow_run").fetchone() == (1,)
    for path, content in [*held(places["home"]), *held(places["images"] / "out")]:
        demand_clean(path, content)


WITH = {"scenes": ["a.tif"], "model": "m", "out": "o"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"scenes": ["b.tif", signed("https://host")]}, "scenes.1"),
        ({"scenes": ["https://host/a.tif?sv=1&sig=planted"]}, "scenes.0"),
        ({"cluster": CLUSTER}, "cluster.arguments.token"),
        ({"on_failure": {"webhook": "https://host/hooks/planted"}}, "on_failure.webhook"),
        ({"cluster": {"class": "a.B", "arguments": {"job": ["--password planted", "token=planted"]}}}, "arguments.job"),
    ],
)
def test_a_job_with_a_secret_is_not_given_to_prefect(more, place):
    with pytest.raises(SettingsError, match=place) as refused:
        demand_no_secret(load_job(None, WITH | more))
    demand_clean("refusal", refused.value.message)


def test_a_job_without_a_secret_is_and_a_variable_is_none():
    cluster = {"class": "a.B", "arguments": {"token": "$TOKEN", "say": "token=$TOKEN", "cores": 2}}
    job = load_job(None, WITH | {"scenes": ["https://host/a.tif?version=3", "s3://b/token.tif"], "cluster": cluster})
    job = job.model_copy(update={"on_failure": Notice(webhook="$HOOK")})
    demand_no_secret(job)
    assert without_secrets(job)["cluster"] == job.model_dump(mode="json")["cluster"]


@pytest.mark.parametrize(
    "text",
    [
        "https://me:planted@host/a", "https://me:planted@planted@host/a", "s3://b/a.tif?x=planted", "password=planted",
        '{"token": "planted"}', "AWS_SESSION_TOKEN=planted", "Signature: planted", "/vsicurl/https://h/a?sig=planted",
        "{'secret': 'planted'}", "https://h/a?x=1&sig=planted, and more",
    ],
)  # fmt: skip
def test_what_is_secret_is_masked(text):
    assert "planted" not in masked(text)
