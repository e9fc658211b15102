"""What lies in a result's folder, altered by somebody: it is gone on with, or refused in a sentence."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.folder import Folder
from pipeline.store.ledger import JOURNAL, read_ledger
from pipeline.store.record import from_line, to_line
from tests.fuzz.drawn import altered, spoilt, values, written
from tests.fuzz.law import fuzz, fuzzed, lawful, limited, listing, told
from tests.mill import world, write_job

pytestmark = fuzz
LOOKS = (  # and change nothing
    ("status", "out"),
    ("run", "--job", "job.yaml", "--dry-run"),
    ("verify", "out/scene0", "--sample", "1"),
    ("plan", "--job", "job.yaml"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory, warm):
    """A folder with a job and its finished result."""
    folder = tmp_path_factory.mktemp("made")
    write_job(folder, world(folder) | {"products": ["confidence"]})
    done = warm.run("run", "--job", "job.yaml", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert warm.run("catalogue", "out", cwd=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def lines(made):
    """The journal's lines, as data."""
    journal = made / "out" / "scene0" / "ledger" / JOURNAL
    return [from_line(line) for line in journal.read_bytes().splitlines(keepends=True)]


def _lines(said):
    """Lines with their checksums, as far as they can be said: damage that no checksum tells."""
    for each in said:
        if isinstance(each, dict):
            try:
                yield to_line(each)
            except ValueError:  # NaN
                yield b"0000 {}\n"
        else:
            yield f"{each}\n".encode("utf-8", "replace")


def _journal(draw, lines):
    content = b"".join(_lines(draw(altered(lines) | altered(lines, times=8))))
    at = draw(st.integers(0, len(content)))
    return (
        content[:at] + draw(st.just(b"") | st.binary(max_size=4)) + content[at + draw(st.sampled_from((0, 0, 0, 1))) :]
    )


@given(data=st.data())
@fuzzed(500)
def test_a_journal_whose_checksums_are_right(tmp_path_factory, lines, data):
    folder = tmp_path_factory.getbasetemp() / "journal"
    folder.mkdir(exist_ok=True)
    content = _journal(data.draw, lines)
    (folder / JOURNAL).write_bytes(content)
    found = lawful(read_ledger, folder)
    if found is not None:
        fold = found[1]
        with limited():
            said = (fold.counts, fold.area, fold.seconds, fold.spread, fold.peak, fold.ran, fold.bytes_written)
            json.dumps([*map(str, said)])
            fold.tally()
            fold.save(folder / "fold.npz")
            (folder / "fold.npz").unlink()
    assert [path.name for path in folder.iterdir()] == [JOURNAL]
    assert (folder / JOURNAL).read_bytes() == content


@given(data=st.data())
@fuzzed(400)
def test_a_frozen_plan_that_is_nearly_right(tmp_path_factory, made, data):
    out = tmp_path_factory.getbasetemp() / "frozen"
    (out / "s" / "ledger").mkdir(parents=True, exist_ok=True)
    plan = json.loads((made / "out" / "scene0" / "ledger" / "plan.json").read_text())
    content = data.draw(altered(plan).flatmap(written) | values().flatmap(written))
    (out / "s" / "ledger" / "plan.json").write_bytes(content)
    found = lawful(Folder(out, "s").choices)
    if found is not None:
        found[1].as_dict()
        assert isinstance(found[0], dict)
    lawful(Folder(out, "s").asked)


def _real(out):
    """What commands read of a folder of results, pixels left aside."""
    return sorted(path for path in out.rglob("*") if path.suffix in {".json", ".jsonl", ".parquet"})


@given(data=st.data())
@fuzzed(14, dear=True)
def test_commands_on_an_altered_result(tmp_path_factory, warm, made, lines, data):
    folder = tmp_path_factory.mktemp("altered")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    file = data.draw(st.sampled_from(_real(folder / "out")))
    if file.name == JOURNAL and data.draw(st.booleans()):
        file.write_bytes(_journal(data.draw, lines))
    elif file.suffix == ".json" and data.draw(st.booleans()):
        file.write_bytes(data.draw(altered(json.loads(file.read_text())).flatmap(written)))
    else:
        file.write_bytes(data.draw(spoilt(file.read_bytes())))
    before = {path: content for path, content in listing(folder).items() if path.parts[0] != "out"}
    home, out = tmp_path_factory.mktemp("home"), listing(folder / "out")
    for arguments in LOOKS:
        told(warm.run(*arguments, "--json", cwd=folder, HOME=home))
    assert {path.parts[0] for path in out} >= {path.name for path in (folder / "out").iterdir()}
    changed = {path for path, content in listing(folder / "out").items() if out.get(path, b"") != content}
    assert not {path for path in changed if path.parts[0] == "scene0" and path.is_file()}, changed
    for arguments in (("catalogue", "out"), ("run", "--job", "job.yaml")):
        told(warm.run(*arguments, "--json", cwd=folder, HOME=home))
    assert {path: content for path, content in listing(folder).items() if path.parts[0] != "out"} == before
    shutil.rmtree(folder)
