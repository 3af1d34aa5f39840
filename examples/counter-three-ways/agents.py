#!/usr/bin/env python3
"""Eight agents count on one shared counter: directly, and through Onceward in three ways.

    version   read n, write n + 1 with the version that was read; who was too late reads again
    turns     a call "add one" to the API, which reads and writes inside; calls come to it one after the other
    lease     hold the counter, read n, write n + 1, give it back; nobody else can write in the meantime

What protects is in onceward.toml; the agents only say what they know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent
from race import Row, arguments, at_once, report, think

AGENTS = 8
COUNTS = 10


def plus_one(counter: dict[str, Any]) -> dict[str, Any]:
    think()
    return {"n": counter["n"] + 1}


def by_version(agent: Agent, path: str) -> None:
    agent.change(path, plus_one)


def by_turns(agent: Agent, path: str) -> None:
    think()
    agent.write("POST", f"{path}/increment")


def by_lease(agent: Agent, path: str) -> None:
    with agent.lease(path) as lease:
        counter = agent.read(path).json
        agent.write("PUT", path, plus_one(counter), onceward_lease=lease)


def race(name: str, url: str, direct: Agent, path: str, count: Callable[[Agent, str], None]) -> Row:
    direct.write("PUT", path, {"n": 0})

    def count_on(agent: Agent) -> int:
        for _ in range(COUNTS):
            count(agent, path)
        return COUNTS

    counted = at_once(url, AGENTS, count_on)
    return Row.counted(name, sum(counted), direct.read(path).json["n"])


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "reader")
    report(
        # Without Onceward there are no versions, and the same program just writes.
        race("direct", told.direct, direct, f"/counters/{told.run}", by_version),
        race("version", told.onceward, direct, f"/counters/{told.run}-version", by_version),
        race("turns", told.onceward, direct, f"/counters/{told.run}-turns", by_turns),
        race("lease", told.onceward, direct, f"/leased-counters/{told.run}", by_lease),
    )
