#!/usr/bin/env python3
"""Eight agents add notes to one shared memory document.

Each reads it, thinks, and writes it back with its note added. What protects: the version that was read, in If-Match.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent
from race import Row, arguments, at_once, report, think

AGENTS = 8
NOTES = 10


def race(name: str, url: str, direct: Agent, path: str) -> Row:
    direct.write("PUT", path, {"notes": []})

    def take_notes(agent: Agent) -> list[str]:
        notes = [f"{agent.name}: note {number}" for number in range(NOTES)]
        for note in notes:
            add(agent, path, note)
        return notes

    taken = at_once(url, AGENTS, take_notes)
    return Row.of(name, sum(taken, []), direct.read(path).json["notes"])


def add(agent: Agent, path: str, note: str) -> None:
    def with_note(memory: dict[str, Any]) -> dict[str, Any]:
        think()
        return {**memory, "notes": [*memory["notes"], note]}

    agent.change(path, with_note)


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "reader")
    report(
        race("direct", told.direct, direct, f"/memories/{told.run}-direct"),
        race("version", told.onceward, direct, f"/memories/{told.run}"),
    )
