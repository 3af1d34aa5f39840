#!/usr/bin/env python3
"""Four agents take orders through their steps; each step is made for good, as a card is charged.

Which steps are made is read, and then the next is made: between the two another agent does the same. What protects: an
agent leases an order, takes it through its steps, and gives it back; the others wait in line. One agent dies with a
lease. It lapses, the next agent goes on where that one stopped, and what the dead one still sends is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent, Refused
from race import Row, arguments, at_once, report, think

AGENTS = 4
STEPS = ["check", "charge", "pack", "ship"]
# How long the one that dies has its lease; the others wait so long for it.
LAPSES_AFTER = "2s"


def carry_on(agent: Agent, order: str, lease: str | None = None) -> None:
    """Makes the steps that are missing, each within the lease's whole time."""
    made = [item["step"] for item in agent.read(f"{order}/steps").json["items"]]
    for step in STEPS:
        if step not in made:
            think()
            if lease:
                agent.renew(lease)
            make(agent, order, step, lease)


def make(agent: Agent, order: str, step: str, lease: str | None) -> None:
    agent.write("POST", f"{order}/steps", {"step": step, "by": agent.name}, onceward_lease=lease)


def directly(url: str, orders: list[str]) -> None:
    def work(agent: Agent) -> None:
        for order in orders:
            carry_on(agent, order)

    at_once(url, AGENTS, work)


def by_lease(url: str, orders: list[str]) -> None:
    # This one makes the first step, and then is not heard of until all is done.
    dead = Agent(url, "agent-dead")
    lapses = dead.take(orders[0], LAPSES_AFTER)
    make(dead, orders[0], STEPS[0], lapses)

    def work(agent: Agent) -> None:
        for order in orders:
            with agent.lease(order) as lease:
                carry_on(agent, order, lease)

    at_once(url, AGENTS, work)
    try:
        make(dead, orders[0], STEPS[1], lapses)
        sys.exit("the write of an agent whose lease had lapsed was not refused")
    except Refused as refused:
        print(f"late write: {refused.code}")


def result(name: str, direct: Agent, orders: list[str]) -> Row:
    wanted = [f"{order} {step}" for order in orders for step in STEPS]
    made = [f"{order} {item['step']}" for order in orders for item in direct.read(f"{order}/steps").json["items"]]
    return Row.of(name, wanted, made)


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "reader")
    unguarded = [f"/orders/{told.run}-{number}-direct" for number in range(5)]
    leased = [f"/orders/{told.run}-{number}" for number in range(5)]
    directly(told.direct, unguarded)
    by_lease(told.onceward, leased)
    report(result("direct", direct, unguarded), result("lease", direct, leased))
