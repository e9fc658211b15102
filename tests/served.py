"""A real HTTP server on loopback that knows ranges and counts what it gave away."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """A folder behind an address; `given` counts bytes of bodies, `asked` the requests."""

    def __init__(self, folder, etag=None, status=None):
        self.folder, self.etag, self.status = folder, etag, status
        self.given, self.asked, self.url = 0, [], ""


@contextmanager
def served(folder, **said):
    """Serve a folder while the body runs."""
    state = Served(folder, **said)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(head=True)

        def do_GET(self):
            self._answer(head=False)

        def log_message(self, *_said):
            """Say nothing."""

        def _answer(self, head):
            state.asked.append((self.command, self.path, self.headers.get("Range")))
            file = state.folder / self.path.partition("?")[0].lstrip("/")
            if state.status or not file.is_file():
                self.send_response(state.status or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            start = int(wanted[1]) if wanted else 0
            end = min(int(wanted[2] or len(content)) + 1 if wanted else len(content), len(content))
            self.send_response(206 if wanted else 200)
            self.send_header("Accept-Ranges", "bytes")
            if state.etag:
                self.send_header("ETag", state.etag)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if not head:
                state.given += end - start
                self.wfile.write(content[start:end])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
