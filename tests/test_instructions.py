"""The hot path costs as many interpreter instructions as recorded: ``bench/instructions.json``.

No clock: the count is the same on every machine. It is taken in a process of its own, for
sys.settrace here belongs to debuggers and to coverage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import opcodes

ROOT = Path(__file__).parent.parent
RECORD = opcodes.recorded()


@pytest.mark.skipif(
    opcodes.PYTHON not in RECORD or sys.implementation.name != "cpython" or os.name != "posix",
    reason="no figures recorded for this Python",
)
def test_a_query_costs_as_many_instructions_as_recorded() -> None:
    # -E: what the environment may ask of Python (-O, -X dev) would change the count.
    command = [sys.executable, "-E", "-m", "bench.opcodes", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode, done.stderr
    moved = opcodes.complaints(RECORD[opcodes.PYTHON], json.loads(done.stdout))
    if moved:
        pytest.fail("\n".join(moved), pytrace=False)


def test_every_python_has_every_figure() -> None:
    names = {f"{client} {batch} {way}" for client in ("plain", "edns", "tcp") for batch in (1, 32)
             for way in ("out", "back")}  # fmt: skip
    assert {version: set(figures) for version, figures in RECORD.items()} == dict.fromkeys(RECORD, names)


@pytest.mark.parametrize("counted", [86.0, 100.0, 104.9])
def test_small_moves_pass(counted: float) -> None:
    assert opcodes.complaints({"plain 1 out": 100.0}, {"plain 1 out": counted}) == []


def test_dearer_is_to_be_made_cheaper_or_recorded() -> None:
    first, figure = opcodes.complaints({"plain 1 out": 100.0}, {"plain 1 out": 106.0})
    assert "Make it cheaper, or change the record in the same commit" in first
    assert "python -m bench.opcodes --record" in first
    assert figure == "  plain 1 out: 100.00 recorded, 106.00 counted, +6.0 %"


def test_far_cheaper_is_to_be_recorded() -> None:
    first, figure = opcodes.complaints({"plain 1 out": 100.0}, {"plain 1 out": 84.0})
    assert "Record the gain" in first
    assert figure == "  plain 1 out: 100.00 recorded, 84.00 counted, -16.0 %"


def test_a_figure_that_is_missing_is_noticed() -> None:
    assert "tcp 1 out: 0.00 recorded" in opcodes.complaints({}, {"tcp 1 out": 5.0})[1]
    assert "tcp 1 out: 5.00 recorded" in opcodes.complaints({"tcp 1 out": 5.0}, {})[1]
