"""The scenarios by name, in the order of their numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from tests.faults.report import Report
from tests.faults.stage import Stage

Play = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    number: str
    name: str
    play: Play
    arguments: tuple[Any, ...]
    quick: bool  # short enough for the test suite
    needs: str  # what a forwarder must be able to do besides DNS over TLS, to be asked at all

    async def run(self, stage: Stage, report: Report) -> None:
        await self.play(stage, report, *self.arguments)

    def matches(self, pattern: str) -> bool:
        if pattern[:1].isdigit() and len(pattern) <= 3:  # "9" is 9a to 9e
            return pattern in (self.number, self.number.rstrip("abcdefgh"))
        return pattern in self.name or fnmatch(self.name, pattern)


_all: list[Scenario] = []


def scenario(
    number: str, name: str, *arguments: object, quick: bool = False, needs: str = ""
) -> Callable[[Play], Play]:  # fmt: skip
    """Enter a function: ``play(stage, report, *arguments)``. Its docstring says what happens and what is expected."""

    def enter(play: Play) -> Play:
        _all.append(Scenario(number, name, play, arguments, quick, needs))
        return play

    return enter


def scenarios() -> Iterator[Scenario]:
    import tests.faults.scenarios  # noqa: F401 - they enter themselves; they need this module

    def order(one: Scenario) -> tuple[int, str]:
        return int(one.number.rstrip("abcdefgh")), one.number

    return iter(sorted(_all, key=order))
