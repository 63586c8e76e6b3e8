"""Names are looked up beside the loop, and what was found is told inside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue

from _udp2tls.config import Config, Endpoint
from _udp2tls.naming import Naming
from tests.fakes import World

WAIT = 5.0


def test_what_was_found_is_told_in_the_loop_and_not_in_the_thread() -> None:
    world = World("tls://dns.example")
    (service,), (upstream,) = world.forwarder.services, world.upstreams
    wishes: SimpleQueue[Callable[[], None]] = SimpleQueue()
    Naming(lambda config, host: (["192.0.2.7"], ""), wishes.put).begin(service, upstream).join(WAIT)
    assert upstream.addresses == []
    wishes.get(timeout=WAIT)()
    assert upstream.addresses == [Endpoint("192.0.2.7", 853)]


def test_of_a_server_behind_a_relay_the_relays_name_is_looked_up() -> None:
    asked: list[str] = []

    def find(config: Config, host: str) -> tuple[list[str], str]:
        asked.append(host)
        return [], "nothing"

    world = World("tls://dns.example")
    (service,), (upstream,) = world.forwarder.services, world.upstreams
    upstream.spec = replace(upstream.spec, relay=Endpoint("relay.example", 443))
    Naming(find, lambda wish: None).begin(service, upstream).join(WAIT)
    assert asked == ["relay.example"]


def test_all_names_are_looked_up_at_once_and_a_slow_one_holds_up_nobody_for_long() -> None:
    world = World("tls://slow.example", "tls://quick.example", "tls://192.0.2.1")
    wishes: SimpleQueue[Callable[[], None]] = SimpleQueue()
    release = threading.Event()
    asked: list[str] = []

    def find(config: Config, host: str) -> tuple[list[str], str]:
        asked.append(host)
        if host == "slow.example":
            release.wait(WAIT)
        return ["192.0.2.8"], ""

    Naming(find, wishes.put).all(world.forwarder.services, 0.05)
    wishes.get(timeout=WAIT)()
    slow, quick, _ = world.upstreams
    assert sorted(asked) == ["quick.example", "slow.example"], "an address is not looked up"
    assert quick.addresses == [Endpoint("192.0.2.8", 853)]
    assert slow.addresses == []
    release.set()
    wishes.get(timeout=WAIT)()
    assert slow.addresses == [Endpoint("192.0.2.8", 853)]
