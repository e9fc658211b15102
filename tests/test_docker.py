"""What lies in docker/: it is parsed, and held to what must stay true. No container runs here; `test_stack` runs the
same commands as processes."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.document import load_job
from tests.stack import compose

DOCKER = compose.ROOT / "docker"
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?")
SECRET = re.compile(r"PASSWORD|SECRET|AUTH|ACCESS_KEY")
SERVICES = compose.read()["services"]
CONTAINERS = {"postgres", "prefect", "scheduler", "worker", "serve"}
KUBERNETES = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text(encoding="utf-8")))
REQUIRED = {"POSTGRES_PASSWORD", "PREFECT_AUTH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "TLS"}


def pods():
    """(name, pod, container) of all that Kubernetes starts."""
    for one in KUBERNETES:
        if one["kind"] in ("Deployment", "StatefulSet"):
            pod = one["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield one["metadata"]["name"], pod, container


def test_no_python_lies_here():
    """A package `docker` would shadow the SDK that Prefect imports."""
    assert not list(DOCKER.rglob("*.py"))


# compose.yaml


def test_the_services_are_those_of_the_stack_and_the_rest_is_asked_for():
    assert {name for name, said in SERVICES.items() if not said.get("profiles")} == CONTAINERS
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert SERVICES["s3"]["profiles"] == ["try"]


def test_images_are_pinned_and_ports_are_this_machines_alone():
    for said in SERVICES.values():
        assert PINNED.fullmatch(said["image"])
        assert all(port.startswith("127.0.0.1:") for port in said.get("ports", ()))
        assert "privileged" not in said
        assert said.get("network_mode") is None


def test_it_is_what_the_compose_specification_says():
    spec = pytest.importorskip("compose_spec")
    given = dict.fromkeys(REQUIRED, "said")
    whole = yaml.safe_load(compose.filled(compose.FILE.read_text(encoding="utf-8"), given))
    assert set(spec.PyCompose.from_json(json.dumps(whole)).service_names()) > CONTAINERS
    whole["services"]["worker"]["helthcheck"] = {}
    with pytest.raises(ValueError, match="helthcheck"):
        spec.PyCompose.from_json(json.dumps(whole))


def test_it_refuses_to_start_while_a_secret_is_missing():
    text = compose.FILE.read_text(encoding="utf-8")
    assert {name for name, sign, _ in compose.VARIABLE.findall(text) if sign == ":?"} == REQUIRED
    given = dict.fromkeys(REQUIRED, "said")
    compose.filled(text, given)
    for name in REQUIRED:
        with pytest.raises(KeyError, match=name):
            compose.filled(text, {**given, name: ""})


def test_no_secret_is_written_down():
    for said in SERVICES.values():
        for name, value in said.get("environment", {}).items():
            assert not SECRET.search(name) or re.fullmatch(r"\$\{\w+:\?[^}]*\}", value), name
    example = dict(
        line.split("=", 1) for line in (DOCKER / "env.example").read_text().splitlines() if line[:1] not in ("#", "")
    )
    assert {name for name, value in example.items() if not value} == REQUIRED
    used = {name for name, _, _ in compose.VARIABLE.findall(compose.FILE.read_text(encoding="utf-8"))}
    assert set(example) <= used
    ignored = (compose.ROOT / ".gitignore").read_text().splitlines()
    assert {"/docker/.env", "/docker/tls/"} <= set(ignored)


def test_a_process_here_is_what_the_container_would_run(tmp_path):
    words = compose.command(SERVICES["serve"], {}, {"/job/job.yaml": "job.yaml"})
    said = ["schedule", "job.yaml", "--cron", "0 2 * * *", "--timezone", "UTC"]
    assert words == [sys.executable, "-m", "flows.cli", *said]


# kubernetes.yaml


def test_kubernetes_runs_the_same_commands_of_pinned_images():
    started = {name.removeprefix("maskmill-"): container for name, _, container in pods()}
    assert set(started) == CONTAINERS
    for name, container in started.items():
        here, there = SERVICES[name]["image"], container["image"].removeprefix("registry.example/")
        assert here == there
        assert PINNED.fullmatch(there)
        if name != "postgres":
            said = [compose.filled(word, {"WORKERS": "1"}) for word in SERVICES[name]["command"]]
            once = [word for word in said if word not in ("--nworkers", "1")]
            assert [word for word in container["command"] if word != "1"] == once


def test_kubernetes_takes_each_resource():
    kubernetes = pytest.importorskip("kubernetes_validate")
    for one in KUBERNETES:
        kubernetes.validate(one, kubernetes.latest_version(), strict=True)
    (wrong,) = [one for one in copy.deepcopy(KUBERNETES) if one["metadata"]["name"] == "maskmill-worker"]
    wrong["spec"]["template"]["spec"]["securityContext"]["runAsNonRot"] = True
    with pytest.raises(kubernetes.ValidationError, match="runAsNonRot"):
        kubernetes.validate(wrong, kubernetes.latest_version(), strict=True)


def test_kubernetes_has_the_same_settings_and_no_secret():
    assert not [one for one in KUBERNETES if one["kind"] == "Secret"]
    (tls,) = [one["data"] for one in KUBERNETES if one["kind"] == "ConfigMap"]
    assert set(tls) == {name for name in SERVICES["worker"]["environment"] if name.startswith("DASK_")}
    text = (DOCKER / "kubernetes.yaml").read_text(encoding="utf-8")
    made = dict.fromkeys(re.findall(r"create secret generic (\S+)", text))
    for name, pod, container in pods():
        environment = {one["name"]: one for one in container.get("env", ())}
        for key, one in environment.items():
            assert not SECRET.search(key) or set(one) == {"name", "valueFrom"}
        asked = [one["valueFrom"]["secretKeyRef"]["name"] for one in environment.values() if "valueFrom" in one]
        asked += [one["secretRef"]["name"] for one in container.get("envFrom", ()) if "secretRef" in one]
        asked += [one["secret"]["secretName"] for one in pod.get("volumes", ()) if "secret" in one]
        assert set(asked) <= set(made), name
        if name == "maskmill-prefect":
            assert set(SERVICES["prefect"]["environment"]) <= set(environment)


def test_pods_are_confined_and_find_each_other():
    services = {one["metadata"]["name"] for one in KUBERNETES if one["kind"] == "Service"}
    assert {"maskmill-prefect", "maskmill-postgres", "scheduler"} == services
    for name, pod, container in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"]
        assert {one["name"] for one in container["volumeMounts"]} <= {one["name"] for one in pod.get("volumes", ())} | {
            "data"
        }


# The image, the job, the certificates


def test_the_image_is_pinned_has_two_targets_and_no_root():
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    names = {name for _, name, _ in stages}
    assert all(base in names or PINNED.fullmatch(base) for base, _, _ in stages)
    assert stages[-1][1] == "cpu"
    for name, body in ((name, body) for _, name, body in stages if name in ("cpu", "gpu")):
        assert re.search(r"^USER \d+$", body, re.MULTILINE), name
        assert "HEALTHCHECK" in body
        assert "ENTRYPOINT" not in body
    copied = set(re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE))
    assert copied == {"pipeline", "flows", "models"}


def test_the_health_check_finds_what_doctor_says(tmp_path):
    checks = [
        json.loads(said) for said in re.findall(r"^  CMD (\[.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    ]
    assert len(checks) == 2
    (tmp_path / "maskmill").write_text(f'#!/bin/sh\nexec {sys.executable} -m flows.cli "$@"\n')
    (tmp_path / "maskmill").chmod(0o755)
    around = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(compose.ROOT)}
    healthy = [subprocess.run(check, capture_output=True, cwd=tmp_path, env=around).returncode for check in checks]
    assert healthy[-1] == 0
    (tmp_path / "maskmill").write_text("#!/bin/sh\nexit 1\n")
    assert subprocess.run(checks[-1], capture_output=True, cwd=tmp_path, env=around).returncode != 0


def test_hadolint_has_nothing_to_say():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, str(DOCKER / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_job_is_a_job():
    assert load_job(DOCKER / "job.yaml", {}).far


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_certificates_fit_their_key_and_lie_in_a_closed_folder(tmp_path):
    subprocess.run([DOCKER / "certificates.sh", tmp_path / "tls"], check=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "tls/ca.pem")
    context.load_cert_chain(tmp_path / "tls/cert.pem", tmp_path / "tls/key.pem")
    assert (tmp_path / "tls").stat().st_mode & 0o077 == 0
    assert len(list((tmp_path / "tls").iterdir())) == 3
