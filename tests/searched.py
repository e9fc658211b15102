"""A STAC API on loopback: a landing page and a search."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def api(items, page=2):
    """A server that answers a search in pages; gives its address and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = f"http://127.0.0.1:{self.server.server_port}"
            conforms = [
                f"https://api.stacspec.org/v1.0.0/{one}" for one in ("core", "item-search", "item-search#query")
            ]
            links = [{"rel": "search", "href": f"{url}/search", "type": "application/geo+json", "method": "POST"}]
            links += [{"rel": one, "href": f"{url}/", "type": "application/json"} for one in ("root", "self")]
            root = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "x"}
            self._say({**root, "conformsTo": conforms, "links": links})

        def do_POST(self):
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(said)
            begin = said.get("token", 0)
            box = said.get("bbox")
            meant = [one for one in items if not box or box[0] <= one["bbox"][0] <= box[2]]
            links = []
            if begin + page < len(meant):
                url = f"http://127.0.0.1:{self.server.server_port}/search"
                body = {**said, "token": begin + page}
                links = [{"rel": "next", "href": url, "method": "POST", "body": body}]
            self._say({"type": "FeatureCollection", "features": meant[begin : begin + page], "links": links})

        def _say(self, said):
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_said):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
