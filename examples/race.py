"""What the example programs share and an agent does not need: arguments, agents at the same time, answers that get
lost, and the table at the end."""

from __future__ import annotations

import argparse
import itertools
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from agent import Agent, Answer

T = TypeVar("T")

# Of each agent's writes one in so many loses its answer.
UNLUCKY = 10


class Unlucky(Agent):
    """An agent on a bad line: of some writes, which were performed, the answer gets lost, and it sends them again."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.writes = itertools.count(1)

    def exchange(self, method: str, path: str, content: Any, headers: dict[str, str | None]) -> Answer:
        answer = super().exchange(method, path, content, headers)
        if method != "GET" and next(self.writes) % UNLUCKY == 0:
            raise ConnectionError("the answer got lost")
        return answer


@dataclass(frozen=True)
class Row:
    """What was to be there in the end, and what was."""

    name: str
    expected: int
    final: int
    lost: int
    doubled: int

    @staticmethod
    def of(name: str, expected: Iterable[str], found: Iterable[str]) -> Row:
        """Each that is expected is to be found once."""
        wanted, there = Counter(expected), Counter(found)
        return Row(name, wanted.total(), there.total(), (wanted - there).total(), (there - wanted).total())

    @staticmethod
    def counted(name: str, expected: int, final: int) -> Row:
        return Row(name, expected, final, max(0, expected - final), max(0, final - expected))


def arguments(about: str | None) -> argparse.Namespace:
    """`--onceward` and `--direct`: the same API, guarded and not; and a name for what this run works on."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--onceward", default="http://127.0.0.1:8080", metavar="URL")
    parser.add_argument("--direct", default="http://127.0.0.1:3000", metavar="URL")
    told = parser.parse_args()
    told.run = secrets.token_hex(3)
    return told


def think() -> None:
    """What an agent does between reading and writing."""
    time.sleep(random.uniform(0.001, 0.005))


def at_once(url: str, agents: int, work: Callable[[Agent], T]) -> list[T]:
    """So many agents at the same time, each with a thread and a connection of its own."""
    with ThreadPoolExecutor(agents) as pool:
        return list(pool.map(work, [Unlucky(url, f"agent-{number}") for number in range(agents)]))


def report(*rows: Row) -> None:
    """Prints the table; ends with 1 if anything was lost or doubled in a row other than `direct`."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  expected  final  lost  doubled")
    for row in rows:
        print(f"{row.name:{width}}  {row.expected:8}  {row.final:5}  {row.lost:4}  {row.doubled:7}")
    wrong = [row.name for row in rows if row.name != "direct" and (row.lost or row.doubled)]
    if wrong:
        sys.exit(f"through Onceward something was lost or doubled: {', '.join(wrong)}")
