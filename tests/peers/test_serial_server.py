"""A server that works on one query at a time: dnsmasq with stunnel before it, as many a home has it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests import authority
from tests.peers import asking, late, programs
from tests.peers.conftest import Start

pytestmark = pytest.mark.peers

NAMES = 100
SERVICE, SLOW = 2, 2000  # milliseconds


@pytest.fixture(scope="module")
def serial(certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[programs.Program]:
    folder = tmp_path_factory.mktemp("serial")
    with (
        late.Late() as backend,
        programs.dnsmasq(folder, backend.port) as dnsmasq,
        programs.stunnel_before(dnsmasq.port, certs, folder) as stunnel,
    ):
        yield stunnel


def burst(port: int, label: str, slow: int = -1) -> list[float]:
    """Ask ``NAMES`` names at once, number ``slow`` a slow one; return after how many seconds each was answered."""
    takes = [SLOW if number == slow else SERVICE for number in range(NAMES)]
    names = [f"{label}{number}.n{number % 10}.d{takes[number]}.{late.ZONE}" for number in range(NAMES)]
    queries = [asking.make_query(name, id=number) for number, name in enumerate(names)]
    took = [float("inf")] * NAMES
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(asking.PATIENCE)
        sock.connect(("127.0.0.1", port))
        begin = time.monotonic()
        for query in queries:
            sock.send(query)
        for _ in queries:
            answer = sock.recv(4096)
            number = int.from_bytes(answer[:2], "big")
            assert asking.is_right(queries[number], answer)
            took[number] = time.monotonic() - begin
    return took


def test_after_an_ordinary_burst_a_slow_name_holds_up_nobody(serial: programs.Program, start: Start) -> None:
    bridge = start(*programs.upstream(serial.port))
    places = burst(bridge.port, "ordinary")
    assert max(places) > NAMES * SERVICE / 1000, "one after the other, on the one connection there is"
    assert "works on one query at a time" in bridge.log
    for turn, slow in enumerate((9, 0, 50)):
        took = burst(bridge.port, f"turn{turn}x", slow)
        assert SLOW / 1000 <= took.pop(slow) < 4.5
        late_by = max(one - place for one, place in zip(took, places[:slow] + places[slow + 1 :]))
        # Here at most 17 ms, a handshake's; the rest is for a machine that is busy with something else.
        assert late_by < 0.25
    assert "SERVFAIL" not in bridge.log
