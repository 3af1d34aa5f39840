#!/usr/bin/env python3
"""Eight workers do the open tasks of a plain task list.

The list says what is open, and each worker takes the first: so do the others. What protects: workers claim a task from
Onceward's queue over the same list, and acknowledge it when it is done. One worker dies with its task: after a time
(`visibility`) the task goes to another, and when the dead one still acknowledges it, that is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # where agent.py is

from agent import Agent, Refused
from race import Row, arguments, at_once, report, think

WORKERS = 8
TASKS = 40
QUEUE = "tasks"
# Longer than the queue's `visibility`: who has waited so long for a task knows that no dead worker still has one.
WAIT = 7


def do(worker: Agent, task: str) -> None:
    """The work: here a result that is put down somewhere, for good."""
    think()
    worker.write("POST", "/results", {"task": task, "by": worker.name})


def directly(url: str) -> None:
    def work(worker: Agent) -> None:
        while tasks := worker.read("/tasks?status=open").json["items"]:
            do(worker, tasks[0]["id"])
            worker.write("PATCH", f"/tasks/{tasks[0]['id']}", {"status": "done"})

    at_once(url, WORKERS, work)


def by_claims(url: str) -> None:
    # This one gets a task, and then is not heard of until all is done.
    dead = Agent(url, "worker-dead")
    lapses = dead.claim(QUEUE, WAIT)
    if lapses is None:
        sys.exit("there are open tasks, and none was handed out")

    def work(worker: Agent) -> list[int]:
        attempts = []
        while claim := worker.claim(QUEUE, WAIT):
            do(worker, claim.task["id"])
            worker.ack(QUEUE, claim)
            attempts.append(claim.attempt)
        return attempts

    attempts = sum(at_once(url, WORKERS, work), [])
    print(f"handed out twice: {attempts.count(2)}")
    try:
        dead.ack(QUEUE, lapses)
        sys.exit("the acknowledgment of a worker whose claim had lapsed was not refused")
    except Refused as refused:
        print(f"late acknowledgment: {refused.code}")


def put_down(direct: Agent, tasks: list[str]) -> None:
    for task in tasks:
        direct.write("PUT", f"/tasks/{task}", {"id": task, "status": "open"})


def result(name: str, direct: Agent, tasks: list[str]) -> Row:
    done = [item["task"] for item in direct.read("/results").json["items"]]
    return Row.of(name, tasks, [task for task in done if task in tasks])


if __name__ == "__main__":
    told = arguments(__doc__)
    direct = Agent(told.direct, "reader")
    unguarded = [f"{told.run}-{number}-direct" for number in range(TASKS)]
    claimed = [f"{told.run}-{number}" for number in range(TASKS)]
    put_down(direct, unguarded)
    directly(told.direct)
    put_down(direct, claimed)
    by_claims(told.onceward)
    report(result("direct", direct, unguarded), result("queue", direct, claimed))
