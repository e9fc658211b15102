import json
import subprocess
import sys

from flows.doctor import NEEDED_DRIVERS, examined, packages, runtimes


def _install(folder, name, version, *requires):
    """What pip leaves behind of a package, without its code."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    info.joinpath("METADATA").write_text("\n".join(lines + [f"Requires-Dist: {need}" for need in requires]) + "\n")


def test_all_that_is_essential_is_looked_at_and_found_here():
    checks = {check.what: check for check in examined()}
    broken = [check for check in checks.values() if check.state == "broken"]
    assert not broken
    essential = {"Python", "prefect", "fastapi", "sqlalchemy", "CPUExecutionProvider", "GDAL", "memory", "cores"}
    assert essential | {f"GDAL driver {name}" for name in NEEDED_DRIVERS} <= set(checks)


def test_a_pin_that_does_not_hold_is_broken_and_says_what_to_install(tmp_path, monkeypatch):
    _install(tmp_path, "millstone", "1.0", "sqlalchemy>=99,<100", "no-such-thing", "numpy", "torch>1; extra == 'train'")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {check.what: check for check in packages("millstone")}
    assert set(found) == {"sqlalchemy", "no-such-thing", "numpy"}
    assert found["sqlalchemy"].state == "broken"
    assert "'sqlalchemy<100,>=99'" in found["sqlalchemy"].do
    assert found["no-such-thing"].state == "broken"
    assert found["numpy"].state == "ok"


def test_both_packages_of_one_module_are_broken(tmp_path, monkeypatch):
    assert [check.state for check in runtimes()] == ["ok"]
    for name in ("onnxruntime", "onnxruntime-gpu"):
        _install(tmp_path, name, "1.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    (check,) = runtimes()
    assert check.state == "broken"
    assert "uninstall" in check.do


def test_a_server_that_does_not_answer_is_broken_and_ends_with_1():
    command = [sys.executable, "-m", "flows.cli", "doctor", "--json"]
    env = {"PREFECT_API_URL": "http://user:hush@127.0.0.1:9/api", "PATH": "/usr/bin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == said["exit_code"] == 1
    assert [check["what"] for check in said["checks"] if check["state"] == "broken"] == ["Prefect server"]
    assert "hush" not in done.stdout + done.stderr
