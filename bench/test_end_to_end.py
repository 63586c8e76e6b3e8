"""The forwarder as its user runs it: real processes, real sockets, TLS, on loopback.

Measured: queries per second, queries without an answer, and the CPU time of the
forwarder's process per answered query, user and system, while 1, 100 or 1000 queries
are kept under way. The last is the figure to compare; queries per second depend on
what else the machine does.
Not measured: start, the handshake (the connection is open), the network, a real resolver.
The times in pytest-benchmark's own table are dnsperf's run time and say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from _udp2tls import demo
from bench import load
from bench.loopback import Loopback
from bench.meter import Meter

pytestmark = pytest.mark.benchmark(group="end to end")

SECONDS = 4


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, files: demo.Files) -> Iterator[Loopback]:
    if absent := load.missing():
        pytest.skip(f"not installed: {absent}")
    both = Loopback(tmp_path_factory.mktemp("loopback"), files)
    try:
        both.load(20, 1, rate=2000)  # warm
        yield both
    finally:
        both.close()


@pytest.mark.parametrize("outstanding", [1, 100, 1000])
def test_end_to_end(meter: Meter, running: Loopback, outstanding: int) -> None:
    def work() -> dict[str, float]:
        user, system = running.cpu()
        done = running.load(outstanding, SECONDS)
        now_user, now_system = running.cpu()
        user, system = now_user - user, now_system - system
        per_query = 1e6 / max(1, done.answered)
        return {
            "outstanding": outstanding,
            "per_second": done.answered / done.seconds,
            "lost_percent": done.lost_percent,
            "cpu_us": (user + system) * per_query,
            "user_us": user * per_query,
            "system_us": system * per_query,
            "busy_percent": 100 * (user + system) / done.seconds,
        }

    meter.once(work)
