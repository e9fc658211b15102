"""A SLURM of one machine, of Debian's packages `slurm-wlm` and `munge`: its daemons as processes, in a folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
COMES_UP = 60.0  # seconds
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
NodeName=one NodeAddr=127.0.0.1 NodeHostname={host} CPUs=4 RealMemory=16000
PartitionName=standard Nodes=one Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A queue called `standard` while the body runs; gives the environment by which its commands find it.

    Skips the test where the programs are not there, or do not come up on this machine.
    """
    programs = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in DAEMONS}
    if not all(programs.values()) or not shutil.which("sbatch"):
        pytest.skip("there is no SLURM: apt-get install slurm-wlm munge")
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    said = {"host": socket.gethostname().split(".")[0], "ports": _free(2), "folder": folder, "user": getpass.getuser()}
    (folder / "slurm.conf").write_text(CONF.format(**said))
    where = {"SLURM_CONF": str(folder / "slurm.conf")}
    own = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "log-file")]
    commands = {
        "munged": ["--foreground", "--force", "--num-threads=2", *own, f"--seed-file={folder}/munge.seed"],
        "slurmctld": ["-D"],
        "slurmd": ["-D", "-N", "one"],
    }
    with ExitStack() as stack:
        for name in DAEMONS:
            stack.enter_context(_daemon([str(programs[name]), *commands[name]], folder / f"{name}.log", where))
        _await(where, folder)
        yield where


def states(where: Mapping[str, str]) -> dict[int, str]:
    """What has become of each job that the queue was given, by its number."""
    said = _asked(["squeue", "--noheader", "--states=all", "--format=%i %T"], where).stdout.split()
    return {int(number): state for number, state in zip(said[::2], said[1::2], strict=True)}


def cancel(where: Mapping[str, str], job: int) -> None:
    """Take a job's machine away."""
    _asked(["scancel", str(job)], where)


def _asked(command: list[str], where: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True, timeout=60)


@contextmanager
def _daemon(command: list[str], log: Path, where: Mapping[str, str]) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **where}, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(where: Mapping[str, str], folder: Path) -> None:
    """Wait until the queue takes jobs."""
    until = time.monotonic() + COMES_UP
    while (said := _asked(["sinfo", "--noheader", "--format=%T"], where)).stdout.strip() != "idle":
        if time.monotonic() > until:
            logs = "".join(path.read_text(errors="replace")[-500:] for path in folder.glob("*.log"))
            pytest.skip(f"SLURM does not come up here: {said.stdout}{said.stderr}{logs}")
        time.sleep(0.5)


def _free(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
