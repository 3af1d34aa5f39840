#!/usr/bin/env python3
"""Five agents write notes, and others react to each change.

A reader that reads all notes in a loop reads for nothing most of the time, and misses what changes twice between two
rounds. What helps: a stream of events, one for each change, in order, taken up again where it broke off. And where only
the newest state counts: a read that is answered when the note has changed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent
from race import Row, arguments, at_once, report, think

NOTES = 5
CHANGES = 20
# How often the loop reads, in seconds.
ROUND = 0.02
# The reader of events loses its stream after so many.
BREAK = 15


def write(url: str, notes: list[str]) -> list[str]:
    """Changes each note so many times, all notes at the same time; gives every version that was made."""

    def change(agent: Agent) -> list[str]:
        note = notes[int(agent.name.removeprefix("agent-"))]
        made = []
        for _ in range(CHANGES):
            think()
            written = agent.change(note, lambda found: {"n": found["n"] + 1})
            made.append(f"{note} {written.version}")
        return made

    return sum(at_once(url, NOTES, change), [])


def by_loop(url: str, notes: list[str]) -> Row:
    reader, reads = Agent(url, "reader"), 0
    seen: set[str] = set()

    def loop() -> None:
        nonlocal reads
        current: list[int] = []
        while current != [CHANGES] * NOTES:
            time.sleep(ROUND)
            current = [reader.read(note).json["n"] for note in notes]
            seen.update(f"{note} {n}" for note, n in zip(notes, current) if n > 0)
            reads += NOTES

    meanwhile(loop, lambda: write(url, notes))
    print(f"direct: {reads} reads")
    return Row.of("direct", [f"{note} {n}" for note in notes for n in range(1, CHANGES + 1)], seen)


def by_events(url: str, notes: list[str]) -> Row:
    reader, streams = Agent(url, "reader"), 1
    seen: list[str] = []
    stream = reader.events(type="onceward.changed")

    def follow() -> None:
        nonlocal stream, streams
        left = set(notes)
        while left:
            last, event = next(stream)
            if event["data"]["method"] == "DELETE":
                left.discard(event["subject"])
            elif event["subject"] in left:
                seen.append(f"{event['subject']} {event['data']['version']}")
                if len(seen) % BREAK == 0:
                    stream.close()
                    stream, streams = reader.events(last, type="onceward.changed"), streams + 1

    made: list[str] = []

    def write_and_clear() -> None:
        made.extend(write(url, notes))
        writer = Agent(url, "writer")
        for note in notes:
            writer.write("DELETE", note, if_match=writer.read(note).etag)

    meanwhile(follow, write_and_clear)
    print(f"events: {streams} streams")
    for note in notes:
        if of(note, seen) != of(note, made):
            sys.exit(f"the events of {note} did not come in the order of its changes, each once")
    return Row.of("events", made, seen)


def of(note: str, versions: list[str]) -> list[str]:
    return [version for version in versions if version.split()[0] == note]


def by_waiting(url: str, note: str) -> Row:
    """All write to one note; what counts is only its newest state, so that changes in between may be passed over."""
    waiter, last = Agent(url, "waiter"), 0

    def wait() -> None:
        nonlocal last
        version = waiter.read(note).etag
        while last < NOTES * CHANGES:
            if found := waiter.changed(note, version):
                last, version = found.json["n"], found.etag

    meanwhile(wait, lambda: write(url, [note] * NOTES))
    return Row.counted("wait", NOTES * CHANGES, last)


def meanwhile(reads: Callable[[], None], writes: Callable[[], object]) -> None:
    reading = Thread(target=reads, daemon=True)
    reading.start()
    writes()
    reading.join(30)
    if reading.is_alive():
        sys.exit("the reader still waits for a change that was made")


def laid_out(direct: Agent, run: str, way: str) -> list[str]:
    notes = [f"/notes/{run}-{way}-{number}" for number in range(NOTES)]
    for note in notes:
        direct.write("PUT", note, {"n": 0})
    return notes


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "author")
    report(
        by_loop(told.direct, laid_out(direct, told.run, "direct")),
        by_events(told.onceward, laid_out(direct, told.run, "events")),
        by_waiting(told.onceward, laid_out(direct, told.run, "wait")[0]),
    )
