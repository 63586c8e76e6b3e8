"""What a query costs among many: ``python -m bench.scale``, or ``make bench-scale``; half a minute.

Two tables. The first has a curve for each thing there may be many of: interpreter
instructions per query (as in ``opcodes``: exact, the same on a busy machine) and
microseconds of CPU (the fastest of several rounds; fake sockets and clock, real TLS; without
the kernel), at ``crowd``'s 1000 queries a second, one at a time, where nothing is shared by a
batch. A curve is flat when its last point takes at most a tenth more instructions than its
first one, and ``tests/test_scale.py`` holds them to that; ``STEEPER`` has the exceptions.

The second is ``footprint``'s: bytes for each of many, and how long the program takes to start.

``--json FILE`` writes the figures as well. Nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from _udp2tls import demo
from bench import footprint
from bench.crowd import STEP, Crowd, Size
from bench.opcodes import Counted

# How many times the instructions of a curve's first point a query may take at its last one.
FLAT = 1.10

# Some 16 times a second, while queries come, every connection is looked after, and every section,
# which has its own: that costs so much a second, whatever the queries. With Python 3.13 a query is
# cheaper, and the same looks are more of it.
SECTIONS, ROTATE = "sections of a stunnel.conf, in turn", "upstreams, rotate"
STEEPER = {ROTATE: 1.12, SECTIONS: 1.85}

# Queries to count: some looks at the clocks, at one in 60 milliseconds, are among them.
QUERIES = 240

CURVES: dict[str, tuple[tuple[int, Size], ...]] = {
    "TCP clients, each asking in turn": tuple((n, Size(clients=n)) for n in (1, 100, 1000, 4000, 10_000)),
    "pending queries": tuple((n, Size(pending=n)) for n in (0, 1000, 10_000, 50_000)),
    "upstreams, ordered": tuple((n, Size(upstreams=n)) for n in (1, 5, 20)),
    ROTATE: tuple((n, Size(upstreams=n, strategy="rotate")) for n in (1, 5, 20)),
    "upstreams, fastest": tuple((n, Size(upstreams=n, strategy="fastest")) for n in (1, 5, 20)),
    "listeners, asked in turn": tuple((n, Size(listeners=n)) for n in (1, 8, 64)),
    SECTIONS: tuple((n, Size(services=n)) for n in (1, 8, 64)),
}


@dataclass(frozen=True)
class Point:
    """One point of a curve; ``microseconds`` is 0 where they were not asked for."""

    curve: str
    count: int
    instructions: float
    microseconds: float = 0.0


def _ask(crowd: Crowd, queries: int, turn: Callable[[], None]) -> None:
    for _ in range(queries):
        crowd.query_comes()
        turn()
        crowd.answer_comes()
        turn()


def instructions(crowd: Crowd, queries: int = QUERIES) -> tuple[float, Counter[CodeType]]:
    """Return how many a query costs, and where they are, of all queries."""
    counted = Counted()

    def turn() -> None:
        with counted:
            crowd.turn()

    _ask(crowd, 2, turn)  # from 3.12 on code counts only after it has been traced once
    counted.by_code.clear()
    before = crowd.answered
    _ask(crowd, queries, turn)
    if crowd.answered != before + queries:
        raise RuntimeError(f"{crowd.answered - before} of {queries} queries were answered")
    return counted.by_code.total() / queries, counted.by_code


def microseconds(crowd: Crowd, rounds: int, queries: int = QUERIES) -> float:
    """Return what a query costs in CPU time, in the fastest of ``rounds``."""
    clock = time.process_time_ns
    spent: list[int] = []

    def turn() -> None:
        begin = clock()
        crowd.turn()
        spent[-1] += clock() - begin

    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            spent.append(0)
            _ask(crowd, queries, turn)
    finally:
        gc.enable()
    return min(spent) / queries / 1000


def measure(files: demo.Files, curve: str, count: int, size: Size, rounds: int) -> tuple[Point, Counter[CodeType]]:
    """Measure one point."""
    # What waits is given up after four seconds: the clock must not come that far meanwhile.
    rounds = min(rounds, int(3 / (2 * STEP * QUERIES)) - 2)
    with Crowd(files, size) as crowd:
        spent = microseconds(crowd, rounds) if rounds > 0 else 0.0
        cost, where = instructions(crowd)
    return Point(curve, count, round(cost, 1), round(spent, 1)), where


def steep(points: Sequence[Point]) -> list[str]:
    """Say which curves are not flat, by their instructions; of each the first and the last point count."""
    said = []
    for name in dict.fromkeys(point.curve for point in points):
        first, *_, last = (point for point in points if point.curve == name)
        if last.instructions > first.instructions * STEEPER.get(name, FLAT):
            said.append(
                f"{name}: {first.instructions:.1f} instructions a query with {first.count}, {last.instructions:.1f} "
                f"with {last.count}, {100 * (last.instructions / first.instructions - 1):+.1f} %; "
                "python -m bench.scale --top 10 says where"
            )
    return said


def report(points: Sequence[Point]) -> str:
    """Return the table; rises are against the first point of each curve."""
    lines = [f"{'':36}{'count':>7}{'instructions':>14}{'':>8}{'CPU us':>9}{'':>8}"]
    first = points[0]
    for point in points:
        if point.curve != first.curve or point is points[0]:
            first = point
        rises = [
            "" if point is first or not was else f"{100 * (now / was - 1):+.1f} %"
            for now, was in ((point.instructions, first.instructions), (point.microseconds, first.microseconds))
        ]
        spent = f"{point.microseconds:.1f}" if point.microseconds else "-"
        name = point.curve if point is first else ""
        lines.append(f"{name:36}{point.count:7}{point.instructions:14.1f}{rises[0]:>8}{spent:>9}{rises[1]:>8}")
    return "\n".join(lines)


def grown(small: Counter[CodeType], large: Counter[CodeType], top: int) -> str:
    """Say in which functions the instructions are that a query costs more, among more."""
    more = Counter({code: large[code] - small[code] for code in large})
    return "\n".join(
        f"    {number / QUERIES:+8.2f}  {code.co_qualname} ({Path(code.co_filename).name}:{code.co_firstlineno})"
        for code, number in more.most_common(top)
        if number > 0
    )


def curves(files: demo.Files, rounds: int, top: int, *, ends: bool = False) -> list[Point]:
    """Measure every curve; with ``top``, print where the instructions are that its last point has more.

    ``ends``: only the first and the last point of each.
    """
    points = []
    for name, sizes in CURVES.items():
        if ends:
            sizes = (sizes[0], sizes[-1])
        profiles = []
        for count, size in sizes:
            point, where = measure(files, name, count, size, rounds)
            points.append(point)
            profiles.append(where)
        if top:
            print(f"{name}, at {sizes[-1][0]}:\n{grown(profiles[0], profiles[-1], top)}")
    return points


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="Measure what a query costs among many.")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    parser.add_argument("--rounds", type=int, default=9, help="of the clock; 0: count only (default: 9)")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="where curves rise: N functions of each")
    parser.add_argument("--ends", action="store_true", help="only the first and the last point of each curve")
    parser.add_argument("--curves-only", action="store_true", help="leave out sizes and start")
    options = parser.parse_args()
    found: dict[str, Any] = {"python": platform.python_version(), "taken": time.strftime("%Y-%m-%d", time.gmtime())}
    with tempfile.TemporaryDirectory(prefix="udp2tls-scale-") as folder:
        files = demo.certificates(folder)
        points = curves(files, options.rounds, options.top, ends=options.ends)
        print(report(points), flush=True)
        found["curves"] = [asdict(point) for point in points]
        if not options.curves_only:
            figures = [footprint.pending(files)]
            if sys.platform == "linux":
                figures += footprint.of_program(files, Path(folder))
            else:
                print("\nthe program itself is measured on Linux only")
            print(f"\n{footprint.report(figures)}")
            found["sizes"] = [asdict(figure) for figure in figures]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
