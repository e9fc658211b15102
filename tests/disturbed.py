"""A proxy on loopback before a store: requests are refused, cut off, late or lost, or none is answered any more."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KINDS = ("busy", "cut", "lost", "late")
LATE_SECONDS = 0.3


@contextmanager
def disturbed(url, seed, share=0.1):
    """Stand before a server while the body runs, and disturb so large a part of the requests; (address, faults so far).

    busy: answered with 503, the server never hears of it. cut: the connection ends instead. lost: done, and then the
    connection ends without an answer. late: answered after a while.
    """
    draw, drawing, faults = random.Random(seed), threading.Lock(), Counter()

    def fate():
        with drawing:
            fault = draw.choice(KINDS) if draw.random() < share else None
            faults[fault] += 1
        return fault

    with _before(url, fate) as address:
        yield address, faults


@contextmanager
def standing_still(url, after):
    """Let so many requests pass while the body runs, and answer none that comes later; (address, event: one came)."""
    left, counting, reached, over = after, threading.Lock(), threading.Event(), threading.Event()

    def fate():
        nonlocal left
        with counting:
            left -= 1
            if left >= 0:
                return None
        reached.set()
        over.wait()
        return "cut"

    with _before(url, fate) as address:
        try:
            yield address, reached
        finally:
            over.set()


@contextmanager
def _before(url, fate):
    """Ask `fate` of each request, from many threads: one of KINDS, or None; yields the address."""
    there = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_said):
            """Say nothing."""

        def _pass(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = fate()
            if fault == "busy":
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "late":
                time.sleep(LATE_SECONDS)
            answer, content = (None, b"") if fault == "cut" else self._forwarded(body)
            if fault in ("cut", "lost"):
                self.close_connection = True
                return
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _forwarded(self, body):
            """As it came, with the Host that was signed."""
            link = http.client.HTTPConnection(there.hostname, there.port, timeout=60)
            link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                link.putheader(name, value)
            link.endheaders(body)
            answer = link.getresponse()
            content = answer.read()
            link.close()
            return answer, content

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815  # as http.server wants them

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
