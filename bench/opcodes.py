"""Count the interpreter's instructions per query: ``python -m bench.opcodes``.

Counted: every bytecode instruction of a turn in which queries go out and of the turn in
which their answers come back, of udp2tls and of the standard library's Python beneath it,
on the fakes of ``bench.world``. Not counted: the fakes; what C functions do, so a call of
C is one instruction, however dear.

The same code on the same Python gives the same numbers, to the instruction. That makes
it a guide where the clock is too noisy; whether a saving is one, the clock must say
(``make bench ARGS='-k turn'``).

And it makes it a guard: the figures of each Python are recorded in ``instructions.json``,
and ``tests/test_instructions.py`` fails when the code has moved away from them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from _udp2tls import demo
from bench import material
from bench.world import World

CLIENTS = ("plain", "edns", "tcp")
BATCHES = (1, 32)
RECORD = Path(__file__).with_name("instructions.json")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# How far a figure may move from the record. Other patch levels of one Python differ by less.
DEARER, CHEAPER = 1.05, 0.85

# What is recorded: instructions per query, by "client batch direction".
Figures = dict[str, float]

_HERE = str(Path(__file__).parent)


class Counted:
    """Instructions by code object, while ``with`` lasts."""

    def __init__(self) -> None:
        self.by_code: Counter[CodeType] = Counter()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.startswith(_HERE):
            return None  # a fake: not counted, but what it calls would be
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.by_code[frame.f_code] += 1
        return self._step

    def __enter__(self) -> Counted:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *about: object) -> None:
        sys.settrace(None)


def count(world: World, turns: int, counted: Counted) -> tuple[int, int]:
    """Trace ``turns`` pairs of turns; return the instructions of the query turns and of the answer turns."""
    asking = 0
    for _ in range(turns):
        world.queries_come()
        before = counted.by_code.total()
        with counted:
            world.turn()
        asking += counted.by_code.total() - before
        world.answers_come()
        with counted:
            world.turn()
    return asking, counted.by_code.total() - asking


def measure(files: demo.Files, client: str, batch: int, turns: int) -> tuple[float, float, Counted]:
    """Return the instructions per query on its way out and on its way back, and where they are."""
    with_opt = client == "edns"
    answerer = material.padded if with_opt else material.brief
    counted = Counted()
    with World(files, batch, with_opt=with_opt, answerer=answerer, tcp=client == "tcp") as world:
        count(world, 1, Counted())  # from 3.12 on code counts only after it has been traced once
        asking, answering = count(world, turns, counted)
    queries = batch * turns
    return asking / queries, answering / queries, counted


def report(files: demo.Files, client: str, batch: int, turns: int, top: int) -> None:
    asking, answering, counted = measure(files, client, batch, turns)
    queries = batch * turns
    print(
        f"{client}, batch {batch}: {asking + answering:.2f} instructions per query, "
        f"{asking:.2f} out and {answering:.2f} back"
    )
    for code, number in counted.by_code.most_common(top):
        print(f"  {number / queries:8.2f}  {code.co_qualname} ({Path(code.co_filename).name}:{code.co_firstlineno})")
    print()


def figures(files: demo.Files) -> Figures:
    """Count everything that is recorded."""
    found: Figures = {}
    for client in CLIENTS:
        for batch in BATCHES:
            asking, answering, _ = measure(files, client, batch, turns=5)
            found[f"{client} {batch} out"] = round(asking, 2)
            found[f"{client} {batch} back"] = round(answering, 2)
    return found


def recorded() -> dict[str, Figures]:
    """Return the recorded figures, by Python version."""
    record: dict[str, Figures] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


def record(found: Figures) -> None:
    """Make ``found`` the record of this Python; those of the others stay."""
    everything = (recorded() if RECORD.exists() else {}) | {PYTHON: found}
    by_version = dict(sorted(everything.items(), key=lambda item: tuple(map(int, item[0].split(".")))))
    RECORD.write_text(json.dumps(by_version, indent=1) + "\n", encoding="utf-8")


def complaints(record: Figures, found: Figures) -> list[str]:
    """Say which figures have moved too far from the record, and what to do about them."""
    dearer, cheaper = [], []
    for what in sorted(record.keys() | found.keys()):
        was, now = record.get(what, 0.0), found.get(what, 0.0)
        moved = f"  {what}: {was:.2f} recorded, {now:.2f} counted, {100 * (now / was - 1) if was else 100:+.1f} %"
        if now > was * DEARER:
            dearer.append(moved)
        elif now < was * CHEAPER:
            cheaper.append(moved)
    how = "python -m bench.opcodes --record, on each Python in bench/instructions.json"
    if dearer:
        dearer = [
            f"More interpreter instructions per query than recorded for Python {PYTHON}. Make it cheaper, or change "
            f"the record in the same commit ({how}) and say there why it is worth it.", *dearer,
        ]  # fmt: skip
    if cheaper:
        cheaper = [
            f"Far fewer interpreter instructions per query than recorded for Python {PYTHON}. Record the gain, "
            f"so that it is not lost again: {how}.", *cheaper,
        ]  # fmt: skip
    return dearer + cheaper


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.opcodes", description="Count instructions per query.")
    parser.add_argument("--batch", type=int, action="append", help="a power of two; repeatable (default: 1 and 32)")
    parser.add_argument("--client", choices=CLIENTS, default="plain", help="see bench/README.md")
    parser.add_argument("--turns", type=int, default=10, help="how many pairs of turns to count (default: 10)")
    parser.add_argument("--top", type=int, default=20, help="how many functions to print (default: 20)")
    parser.add_argument("--record", action="store_true", help=f"write this Python's figures into {RECORD.name}")
    parser.add_argument("--json", action="store_true", help="print what would be recorded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="udp2tls-bench-") as folder:
        files = demo.certificates(folder)
        if options.record:
            record(figures(files))
        elif options.json:
            print(json.dumps(figures(files)))
        else:
            for batch in options.batch or BATCHES:
                report(files, options.client, batch, options.turns, options.top)


if __name__ == "__main__":
    main()
