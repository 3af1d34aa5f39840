#!/usr/bin/env python3
"""A tool over a vector store (Chroma), as agents are given them: it keeps in a record's metadata who has used it.

    python3 examples/vector-metadata/tool.py [--chroma URL] [PORT]     (http://127.0.0.1:8000, 3000)

    PUT  /records/7         makes the record, used by nobody
    POST /records/7/uses    {"by": "..."} adds to its metadata
    GET  /records/7/uses    {"used_by": [...]}

Chroma puts a whole value in the place of another. So the tool reads, adds, and writes; and whoever calls it at the same
time does too.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where apis.py is

from apis import Api, Server

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class Chroma:
    """One collection of the store."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url + COLLECTIONS
        self.collection = self.post("", {"name": name, "get_or_create": True})["id"]

    def upsert(self, record: str, used_by: list[str]) -> None:
        # The embedding comes with the record here; else the store would have to make one, which takes a model.
        metadata = {"used_by": json.dumps(used_by)}
        content = {"ids": [record], "embeddings": [[0.0, 1.0]], "metadatas": [metadata]}
        self.post(f"/{self.collection}/upsert", content)

    def used_by(self, record: str) -> list[str]:
        found = self.post(f"/{self.collection}/get", {"ids": [record], "include": ["metadatas"]})
        used_by: list[str] = json.loads(found["metadatas"][0]["used_by"])
        return used_by

    def post(self, path: str, content: dict[str, Any]) -> Any:
        fields = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(content).encode(), fields, method="POST")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")


class Tool(Api):
    chroma: Chroma

    def record(self) -> str:
        return self.path.split("/")[2]

    def do_PUT(self) -> None:
        self.content()
        self.chroma.upsert(self.record(), [])
        self.answer(201, {"used_by": []})

    def do_POST(self) -> None:
        used_by = [*self.chroma.used_by(self.record()), self.content()["by"]]
        self.chroma.upsert(self.record(), used_by)
        self.answer(200, {"used_by": used_by})

    def do_GET(self) -> None:
        self.answer(200, {"used_by": self.chroma.used_by(self.record())})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chroma", default="http://127.0.0.1:8000", metavar="URL")
    parser.add_argument("port", nargs="?", default=3000, type=int)
    told = parser.parse_args()
    Tool.chroma = Chroma(told.chroma, "memories")
    server = Server(("127.0.0.1", told.port), Tool)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
