"""Many queries at once through one TLS connection, asked by dnsperf."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers import asking, programs, scripted
from tests.peers.conftest import Start

pytestmark = [pytest.mark.peers, pytest.mark.slow]

OUTSTANDING = 1000


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_nothing_is_lost_with_a_thousand_queries_outstanding_on_one_connection(
    server_named: Callable[[str], programs.Program], start: Start, tmp_path: Path, long_run: bool, mode: str
) -> None:
    count = 100_000 if long_run else 20_000
    names = tmp_path / "names"
    names.write_text("".join(f"{asking.numbered(serial)} A\n" for serial in range(count)))
    with scripted.Relay(server_named("dnsdist").port) as relay:
        bridge = start(*programs.upstream(relay.port))
        done = subprocess.run(
            [programs.find("dnsperf"), "-s", "127.0.0.1", "-p", str(bridge.port), "-d", str(names), "-n", "1",
             "-m", mode, "-q", str(OUTSTANDING), "-c", "10", "-T", "1", "-b", "4096"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        print(done.stdout[done.stdout.find("Statistics:") :])
        print(f"connections to the upstream: {relay.accepted}")
        assert _figure("Queries sent", done.stdout) == count
        assert _figure("Queries completed", done.stdout) == count
        assert _figure("Queries lost", done.stdout) == 0
        assert re.search(rf"Response codes:\s+NOERROR {count} \(100", done.stdout)
        assert relay.accepted == 1
        assert bridge.alive


def _figure(name: str, output: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", output)
    assert found, output
    return int(found[1])
