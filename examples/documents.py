#!/usr/bin/env python3
"""Documents over HTTP, kept in memory: an API as most are made, for trying Onceward out.

    python3 examples/documents.py [PORT [HOST]]     (3000 on 127.0.0.1; port 0 takes a free one)

It knows no keys and no versions, and the last writer wins. A PUT of a document whose name begins with "flaky" is
performed, and then the connection ends without an answer.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DOCUMENTS = {"7": {"text": "first draft"}, "flaky": {"text": "first draft"}}


class Documents(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def name(self):
        return self.path.removeprefix("/documents/")

    def answer(self, status, content):
        body = json.dumps(content).encode() + b"\n"
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        found = DOCUMENTS.get(self.name())
        self.answer(200 if found else 404, found or {"error": "no such document"})

    def do_PUT(self):
        sent = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        DOCUMENTS[self.name()] = sent
        print(f"PUT {self.path}: {sent}", flush=True)
        if self.name().startswith("flaky"):
            self.close_connection = True
        else:
            self.answer(200, sent)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = ThreadingHTTPServer((host, port), Documents)
    print(f"documents on http://{host}:{server.server_port}/documents/7", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
