#!/usr/bin/env python3
"""A small JSON API over HTTP, kept in memory, for the example agents to meet at: made as most are.

    python3 examples/apis.py [PORT]      (3000; port 0 takes a free one)

It knows no keys, no versions and no leases, and the last writer wins.

    GET    /documents/7            the object; 404 where there is none
    PUT    /documents/7            puts another in its place
    PATCH  /tasks/7                puts members into it
    DELETE /notes/7                takes it away
    GET    /tasks?status=open      {"items": [...]}: a collection's objects that have these members
    POST   /orders/7/steps         puts an object into a collection
    POST   /counters/7/increment   adds one to `n`: reads it, and a moment later writes it
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

OBJECTS: dict[str, dict[str, Any]] = {}
IDS = itertools.count(1)


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path in OBJECTS:
            return self.answer(200, OBJECTS[url.path])
        if url.path.count("/") % 2 == 0:
            return self.answer(404, {"error": f"nothing at {url.path}"})
        wanted = parse_qsl(url.query)
        members = [found for path, found in list(OBJECTS.items()) if path.rpartition("/")[0] == url.path]
        items = [one for one in members if all(str(one.get(name)) == value for name, value in wanted)]
        self.answer(200, {"items": items})

    def do_PUT(self) -> None:
        OBJECTS[self.path] = self.content()
        self.answer(200, OBJECTS[self.path])

    def do_PATCH(self) -> None:
        changed = self.content()
        if self.path not in OBJECTS:
            return self.answer(404, {"error": f"nothing at {self.path}"})
        OBJECTS[self.path] = {**OBJECTS[self.path], **changed}
        self.answer(200, OBJECTS[self.path])

    def do_DELETE(self) -> None:
        self.content()
        gone = OBJECTS.pop(self.path, None)
        self.answer(404 if gone is None else 200, gone or {"error": f"nothing at {self.path}"})

    def do_POST(self) -> None:
        sent = self.content()
        if self.path.endswith("/increment"):
            return self.increment(self.path.removesuffix("/increment"))
        name = next(IDS)
        OBJECTS[f"{self.path}/{name}"] = {"id": name, **sent}
        self.answer(201, {"id": name, **sent})

    def increment(self, path: str) -> None:
        if path not in OBJECTS:
            return self.answer(404, {"error": f"nothing at {path}"})
        n = OBJECTS[path]["n"]
        time.sleep(0.002)
        OBJECTS[path] = {**OBJECTS[path], "n": n + 1}
        self.answer(200, {"n": n + 1})

    def content(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length", 0))
        sent: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
        return sent

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 3000), Api)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
