"""How a benchmark here is timed: a thin, typed front of pytest-benchmark's fixture.

Every benchmark says how many queries one call deals with (``batch``), so that the table
at the end can show microseconds per query beside each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def group(name: str) -> pytest.MarkDecorator:
    """Return the mark of a group of benchmarks; each takes about a third of a second."""
    return pytest.mark.benchmark(group=name, max_time=0.3, min_rounds=20, warmup=True, disable_gc=True)


class Meter:
    """Times one function. ``benchmark`` is pytest-benchmark's fixture."""

    def __init__(self, benchmark: Any) -> None:
        self._benchmark = benchmark

    def repeat(self, batch: int, work: Callable[..., object], *args: object) -> None:
        """Time ``work(*args)``, which can be called any number of times, for ``batch`` queries a call."""
        self._benchmark.extra_info["batch"] = batch
        self._benchmark(work, *args)

    def alternate(self, batch: int, prepare: Callable[[], object], work: Callable[..., object]) -> None:
        """Time ``work`` alone, called in turn with ``prepare``; what ``prepare`` returns is its argument."""
        self._benchmark.extra_info["batch"] = batch

        def setup() -> tuple[tuple[object, ...], dict[str, object]]:
            prepared = prepare()
            return (() if prepared is None else (prepared,)), {}

        self._benchmark.pedantic(work, setup=setup, rounds=max(150, 4000 // batch), warmup_rounds=50)

    def once(self, work: Callable[[], dict[str, float]]) -> None:
        """Run ``work`` once; what it returns is the result, not how long it took."""
        self._benchmark.extra_info.update(self._benchmark.pedantic(work, rounds=1, iterations=1))
