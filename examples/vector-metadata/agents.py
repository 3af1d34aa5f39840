#!/usr/bin/env python3
"""Eight agents use a record of a vector store, and a tool keeps in its metadata who did.

The agents only call the tool; what is read and written back at the same time is inside it, where no agent could send a
version along. What protects: one call at a time per record, and a key, so that a call that is sent again is made once.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent
from race import Row, arguments, at_once, report, think

AGENTS = 8
USES = 10


def race(name: str, url: str, direct: Agent, record: str) -> Row:
    direct.write("PUT", record)

    def use(agent: Agent) -> list[str]:
        uses = [f"{agent.name}: use {number}" for number in range(USES)]
        for by in uses:
            think()
            agent.write("POST", f"{record}/uses", {"by": by})
        return uses

    used = at_once(url, AGENTS, use)
    return Row.of(name, sum(used, []), direct.read(f"{record}/uses").json["used_by"])


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "reader")
    report(
        race("direct", told.direct, direct, f"/records/{told.run}-direct"),
        race("turns and key", told.onceward, direct, f"/records/{told.run}"),
    )
