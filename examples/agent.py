"""What an agent needs to go through Onceward: copy this file, or the parts you use. Python 3.10, nothing but its
standard library.

    agent = Agent("http://127.0.0.1:8080", "agent-7")
    agent.change("/documents/7", lambda document: {**document, "text": "mine"})

What it keeps to (the rules are in docs/PROTOCOL.md):

- Every write has a key of its own, and every try of that write has the same key (K1, K7).
- No answer, or a refusal whose `retry` is "same-key": the same again, under the same key (P2, P3).
- "stale-version": read, apply the change to what is there now, send that under a new key (V6).
- Any other refusal is raised. What it says is written for the agent's model; where nobody knows whether the write was
  executed, only a look can tell, and what to look for knows whoever made the write (K11).

Who an agent is, it says here itself in X-Agent-Id, which stays the same between two tries (I1). Where agents cannot be
trusted with that, let your gateway set it.
"""

from __future__ import annotations

import http.client
import json
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

# How long to send a request again before giving up, in seconds; and how long to wait after a broken connection.
PATIENCE = 60.0
PAUSE = 0.1


Events = Generator[tuple[str, dict[str, Any]], None, None]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def etag(self) -> str | None:
        """The version of what was read."""
        return self.headers["ETag"]

    @property
    def version(self) -> str | None:
        """The version that a write made, for the next one's If-Match."""
        return self.headers["Onceward-Version"]


class Refused(Exception):
    """An answer that is no success: a refusal of Onceward's with its problem document, or the API's own error."""

    def __init__(self, answer: Answer) -> None:
        own = answer.headers.get_content_type() == "application/problem+json"
        self.answer = answer
        self.problem: dict[str, Any] = answer.json if own else {}
        self.code: str | None = self.problem.get("code")
        self.retry: str | None = self.problem.get("retry")
        super().__init__(f"{answer.status}: {self.problem.get('detail') or answer.body.decode(errors='replace')}")


@dataclass(frozen=True)
class Claim:
    """A task that nobody else has until `expires_at`. `attempt` counts how often it was handed out."""

    task: Any
    claim: str
    fence: int
    attempt: int
    expires_at: str


class Agent:
    """One agent with one connection; a thread has its own."""

    def __init__(self, url: str, name: str) -> None:
        self.url = urlsplit(url)
        self.name = name
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        return kind(self.url.netloc, timeout=PATIENCE)

    def read(self, path: str, **headers: str | None) -> Answer:
        return self.send("GET", path, None, headers)

    def changed(self, path: str, version: str | None, wait: int = 30) -> Answer | None:
        """What is there as soon as it is no longer this version; None where it still is after so many seconds."""
        answer = self.read(path, if_none_match=version, prefer=f"wait={wait}")
        return None if answer.status == 304 else answer

    def write(self, method: str, path: str, content: Any = None, **headers: str | None) -> Answer:
        """One write, under a new key however often it is sent: write("PUT", path, content, if_match=etag)."""
        return self.send(method, path, content, {"idempotency_key": str(uuid.uuid4()), **headers})

    def change(self, path: str, edit: Callable[[Any], Any]) -> Answer:
        """Reads, edits and writes back, again for as long as another agent's write came in between."""
        found = self.read(path)
        content, version = found.json, found.etag
        while True:
            try:
                return self.write("PUT", path, edit(content), if_match=version)
            except Refused as refused:
                if refused.code != "stale-version":
                    raise
                # With version.include_current the refusal brings what is there now; else it has to be read.
                content, version = refused.problem.get("current"), refused.problem["current_etag"]
                if content is None:
                    found = self.read(path)
                    content, version = found.json, found.etag
            # Agents that all come back at once would only meet again.
            time.sleep(random.uniform(0, 0.02))

    def send(self, method: str, path: str, content: Any, headers: dict[str, str | None]) -> Answer:
        """Sends a request, and again as it is for as long as that is right; raises what it is refused with."""
        end = time.monotonic() + PATIENCE
        failure: Exception
        while True:
            try:
                answer = self.exchange(method, path, content, headers)
                if answer.status < 400:
                    return answer
                refused = Refused(answer)
                if refused.retry != "same-key":
                    raise refused
                failure, pause = refused, float(refused.problem["retry_after"])
            except (OSError, http.client.HTTPException) as error:
                # Whether it was performed cannot be known; under the same key that does not matter.
                self.connection.close()
                failure, pause = error, PAUSE
            if time.monotonic() + pause > end:
                raise failure
            time.sleep(pause)

    def exchange(self, method: str, path: str, content: Any, headers: dict[str, str | None]) -> Answer:
        """One try of a request."""
        fields = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        fields |= {"X-Agent-Id": self.name, "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content)
        self.connection.request(method, path, body, fields)
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    @contextmanager
    def lease(self, resource: str, ttl: str = "30s", wait: int = 30) -> Iterator[str]:
        """Holds a resource alone; waits in line for it. Its writes go with onceward_lease= what this gives."""
        lease = self.take(resource, ttl, wait)
        try:
            yield lease
        finally:
            self.write("DELETE", f"/.onceward/leases/{lease}")

    def take(self, resource: str, ttl: str = "30s", wait: int = 30) -> str:
        asked = {"resource": resource, "ttl": ttl}
        return str(self.write("POST", "/.onceward/leases", asked, prefer=f"wait={wait}").json["lease"])

    def renew(self, lease: str) -> None:
        """Its time begins anew. Refused with "lease-lost" when it had lapsed: what the agent began is another's now."""
        self.write("PUT", f"/.onceward/leases/{lease}")

    def claim(self, queue: str, wait: int = 10) -> Claim | None:
        """A task of a queue, to be acknowledged when it is done; None where none came while this waited."""
        answer = self.write("POST", f"/.onceward/queues/{queue}/claim", prefer=f"wait={wait}")
        if answer.status == 204:
            return None
        told = answer.json
        return Claim(**{name: told[name] for name in ("task", "claim", "fence", "attempt", "expires_at")})

    def ack(self, queue: str, claim: Claim) -> None:
        self.write("POST", f"/.onceward/queues/{queue}/claims/{claim.claim}/ack")

    def events(self, last: str | None = None, **only: str) -> Events:
        """Events as they come, each with its id: events(resource="/documents/7"), or all that come after `last`.

        The stream is open when this returns: read what you watch then, and nothing falls in between. One that breaks
        off is taken up after its last event. "gone" says that those are no longer held: read all anew, without `last`.
        """
        path = f"/.onceward/events?{urlencode(only)}"
        return self.follow(path, self.open(path, last), last)

    def open(self, path: str, last: str | None) -> http.client.HTTPResponse:
        connection = self.connect()
        fields = {"X-Agent-Id": self.name, "Accept": "text/event-stream"}
        connection.request("GET", path, headers=fields | ({"Last-Event-ID": last} if last else {}))
        stream = connection.getresponse()
        if stream.status != 200:
            raise Refused(Answer(stream.status, stream.headers, stream.read()))
        return stream

    def follow(self, path: str, stream: http.client.HTTPResponse, last: str | None) -> Events:
        while True:
            try:
                with stream:
                    for last, data in parsed(stream):
                        if data:
                            yield last, json.loads(data)
            except (OSError, http.client.HTTPException):
                pass  # As with one that ended: what comes next is asked for.
            stream = self.reopened(path, last)

    def reopened(self, path: str, last: str | None) -> http.client.HTTPResponse:
        end = time.monotonic() + PATIENCE
        while True:
            time.sleep(PAUSE)
            try:
                return self.open(path, last)
            except (OSError, http.client.HTTPException, Refused) as error:
                final = isinstance(error, Refused) and error.retry != "same-key"
                if final or time.monotonic() > end:
                    raise


def parsed(stream: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """What a text/event-stream says, each time with the id it has come to; without data where it says only that."""
    event, data = "", []
    for line in stream:
        text = line.decode().rstrip("\r\n")
        name, _, value = text.partition(":")
        if name == "id":
            event = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
        elif not text and event:
            yield event, "\n".join(data)
            data = []
