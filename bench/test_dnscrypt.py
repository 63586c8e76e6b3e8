"""DNSCrypt over UDP, against a server in memory.

Measured: sending a batch of queries (nonces, padding, sealing, the table) and receiving its
answers, one datagram each. Besides the codec's own part that is Box.seal and Box.open, which
are in the group "box". Not measured: the server's end, the certificate, sockets.
"""

from __future__ import annotations

import os

import pytest

from _udp2tls.dnscrypt import Udp
from _udp2tls.provider import Provider
from bench import material
from bench.meter import Meter, group
from tests import provider as peers

pytestmark = [group("dnscrypt"), pytest.mark.parametrize("batch", material.BATCHES)]


class Clock:
    """A later time at each look, so that nothing is sent twice within one."""

    now = 1.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def opened(*, ephemeral: bool = False) -> tuple[Udp, peers.Resolver]:
    """Return a codec that has its certificate, and its server."""
    provider, resolver = peers.Provider(), peers.Resolver()
    codec = Udp(Provider(peers.NAME, provider.public, os.urandom, lambda: peers.NOW, ephemeral=ephemeral), 0.0)
    (asked,) = codec.outgoing()
    codec.receive([peers.reply(asked, resolver.certificate(provider))], 0.02)
    return codec, resolver


def answers(codec: Udp, resolver: peers.Resolver) -> list[bytes]:
    replies = []
    for packet in codec.outgoing():
        plain, sealed = resolver.open(packet)
        replies.append(sealed.answer(material.brief(plain[: plain.rindex(b"\x80")])))
    return replies


@pytest.mark.parametrize("keys", ["shared", "ephemeral"])
def test_send(meter: Meter, batch: int, keys: str) -> None:
    codec, resolver = opened(ephemeral=keys == "ephemeral")
    messages = [material.dressed(message) for message in material.queries(batch)]
    clock = Clock()

    def prepare() -> None:
        codec.receive(answers(codec, resolver), clock())

    def work() -> None:
        codec.send(messages, clock())

    meter.alternate(batch, prepare, work)


def test_receive(meter: Meter, batch: int) -> None:
    codec, resolver = opened()
    messages = [material.dressed(message) for message in material.queries(batch)]
    clock = Clock()

    def prepare() -> list[bytes]:
        codec.send(messages, clock())
        return answers(codec, resolver)

    def work(packets: list[bytes]) -> None:
        codec.receive(packets, clock())

    assert len(codec.receive(prepare(), clock())) == batch
    meter.alternate(batch, prepare, work)
