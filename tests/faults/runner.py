"""Runs one scenario against one forwarder, whatever happens in it."""

from __future__ import annotations

import asyncio
import tempfile
import time
import traceback
from pathlib import Path

from tests import authority
from tests.faults.forwarders import DidNotStart
from tests.faults.registry import Scenario
from tests.faults.report import Report, Result
from tests.faults.stage import Stage

LIMIT = 150.0  # seconds; no scenario takes as long, but for the long mixture
LAG = 0.05  # seconds this process was held up from which on it is worth saying


def run(scenario: Scenario, forwarder: str, certs: authority.Authority, *, long: bool = False, scale: float = 1.0
        ) -> Result:  # fmt: skip
    begin = time.monotonic()
    report = Report(scale)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        asyncio.run(_play(scenario, Stage(forwarder, certs, Path(folder), long=long), report))
    return Result(forwarder, scenario.number, scenario.name, report.passed, report.figures, time.monotonic() - begin)


async def _play(scenario: Scenario, stage: Stage, report: Report) -> None:
    try:
        async with stage, asyncio.timeout(LIMIT + 600 * stage.long):
            await scenario.run(stage, report)
            if not stage.forwarder.alive:
                report.expect(False, f"it ended: {stage.forwarder.log[-300:]}")
            if stage.lag > LAG:
                report.note(f"(the machine held the test up for {stage.lag * 1000:.0f} ms)")
    except DidNotStart as error:
        report.expect(False, f"did not start: {error}")
    except TimeoutError:
        report.expect(False, "no end within the time for it")
    except Exception as error:  # a broken scenario must not pass, nor end the others
        traceback.print_exc()
        report.expect(False, f"the scenario broke: {error!r}")
