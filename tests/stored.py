"""A real S3 server on loopback over a folder: rclone's."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "loopback-key-of-tests", "loopback-secret-of-tests"


@contextmanager
def stored(folder, remembered="0s"):
    """Serve a folder's subfolders as buckets while the body runs; gives what the environment must say of it.

    For so long it takes the folders for what it has seen of them; with 0 it slows down when much is written by it.
    """
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    process = subprocess.Popen(
        [
            rclone,
            "serve",
            "s3",
            str(folder),
            "--addr",
            f"127.0.0.1:{port}",
            "--auth-key",
            f"{KEY},{SECRET}",
            "--dir-cache-time",
            remembered,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(port)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.wait()


def _wait(port, seconds=20.0):
    until = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextmanager
def kept(bucket):
    """An S3 server that answers ranges as GDAL wants them, which rclone's does not: moto's, with a bucket."""
    from moto.server import ThreadedMotoServer
    from obstore.store import S3Store

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    said = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
    said |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    try:
        urllib.request.urlopen(urllib.request.Request(f"{said['AWS_ENDPOINT_URL']}/{bucket}", method="PUT")).close()
        config = {name.lower(): value for name, value in said.items()}
        yield said, S3Store(bucket, config=config, client_options={"allow_http": True})
    finally:
        server.stop()
