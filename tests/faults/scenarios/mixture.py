"""Everything, at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tests.faults import tampering
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.faults.upstream import Upstream


def _setting(**values: object) -> Callable[[Upstream], None]:
    def apply(upstream: Upstream) -> None:
        for name, value in values.items():
            setattr(upstream, name, value)

    return apply


def _and_cut(fault: Callable[[Upstream], None]) -> Callable[[Upstream], None]:
    def apply(upstream: Upstream) -> None:
        fault(upstream)
        upstream.cut()

    return apply


FAULTS: dict[str, Callable[[Upstream], None]] = {
    "reset": Upstream.cut,
    "silent": Upstream.go_silent,
    "refused": _and_cut(Upstream.refuse),
    "black hole": _and_cut(Upstream.black_hole),
    "black hole for new ones": Upstream.black_hole,
    "stalled": _and_cut(_setting(stall=True)),
    "bad certificate": _and_cut(_setting(bad_certificate=True)),
    "SERVFAIL": _setting(servfail=True),
    "one query each": _setting(one_shot=True),
    "serial": _setting(serial=True, service=0.01),
    "slow": _setting(delay=0.2, jitter=0.3),
    "idle close": _setting(idle_limit=0.02, idle_end="fin"),
    "idle drop": _setting(idle_limit=0.02, idle_end="go_silent"),
    "half a frame": _setting(halve=1),
    "twice": _setting(tamper=tampering.duplicates),
    "wrong ID": _setting(tamper=tampering.wrong_id),
    "wrong question": _setting(tamper=tampering.wrong_question),
    "empty frames": _setting(tamper=tampering.zero_length_frames),
    "garbage": _setting(tamper_once=tampering.garbage),
    "mutations": _setting(tamper=tampering.mutations),
    "TLS garbage": lambda upstream: upstream.spill(b"x" * 100),
}


@scenario("30", "everything at random")
async def mixture(stage: Stage, report: Report) -> None:
    """One minute (long: ten) of 30 queries/s, in which faults of every kind last 0.5 to 3 s, 2 to 4 s apart.

    Every query is answered within 5 s, never wrongly, 90 % rightly; the forwarder lives.
    """
    seconds = 600 if stage.long else 60
    rng = random.Random(30)
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    load = asyncio.create_task(clients.steady(30, seconds))
    had: list[str] = []
    faults: list[str] = []
    while not load.done():
        await asyncio.sleep(rng.uniform(2, 4))
        faults = faults or rng.sample(list(FAULTS), len(FAULTS))
        had.append(faults.pop())
        FAULTS[had[-1]](upstream)
        await asyncio.sleep(rng.uniform(0.5, 3))
        upstream.heal()
    await clients.settle()
    record = clients.record
    spoilt = record.count("wrong") + record.count("unanswered") + record.stray
    report.expect(not spoilt, f"{len(had)} faults, {record}")
    report.within(record.worst, 5.0, "each answered, the last after")
    report.expect(record.right_share >= 0.9, f"{record.right_share:.1%} right")
    alive = stage.forwarder.alive
    report.expect(alive, "alive" if alive else "dead")
