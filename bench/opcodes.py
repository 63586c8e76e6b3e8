"""Count the interpreter's instructions per query: ``python -m bench.opcodes``.

Counted: every bytecode instruction of a turn in which queries go out and of the turn in
which their answers come back, of udp2tls and of the standard library's Python beneath it,
on the fakes of ``bench.world``. Not counted: the fakes; what C functions do, so a call of
C is one instruction, however dear.

The same code on the same Python gives the same numbers, to the instruction. That makes
it a guide where the clock is too noisy; whether a saving is one, the clock must say
(``make bench ARGS='-k turn'``). It asserts nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from _udp2tls import demo
from bench import material
from bench.world import World

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


def report(files: demo.Files, batch: int, turns: int, top: int, client: str) -> None:
    with_opt = client == "edns"
    answerer = material.padded if with_opt else material.brief
    counted = Counted()
    with World(files, batch, with_opt=with_opt, answerer=answerer, tcp=client == "tcp") as world:
        asking, answering = count(world, turns, counted)
    queries = batch * turns
    print(
        f"{client}, batch {batch}: {(asking + answering) / queries:.2f} instructions per query, "
        f"{asking / queries:.2f} out and {answering / queries:.2f} back"
    )
    for code, number in counted.by_code.most_common(top):
        print(f"  {number / queries:8.2f}  {code.co_qualname} ({Path(code.co_filename).name}:{code.co_firstlineno})")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.opcodes", description="Count instructions per query.")
    parser.add_argument("--batch", type=int, action="append", help="a power of two; repeatable (default: 1 and 32)")
    parser.add_argument("--client", choices=("plain", "edns", "tcp"), default="plain", help="see bench/README.md")
    parser.add_argument("--turns", type=int, default=10, help="how many pairs of turns to count (default: 10)")
    parser.add_argument("--top", type=int, default=20, help="how many functions to print (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="udp2tls-bench-") as folder:
        files = demo.certificates(folder)
        for batch in options.batch or (1, 32):
            report(files, batch, options.turns, options.top, options.client)


if __name__ == "__main__":
    main()
