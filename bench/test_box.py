"""DNSCrypt's boxes: a query sealed, an answer opened, by es_version and padded size.

Measured: Box.seal and Box.open of one packet, and what a query costs with a key pair of its
own (ephemeral) or, in es_version 3, with a ticket. Systems that are not installed are skipped.
Not measured: nonces, framing, matching an answer to its query, certificates.
"""

from __future__ import annotations

import os

import pytest

from _udp2tls import box
from bench import material
from bench.meter import Meter, group
from tests.provider import Provider, Resolver

pytestmark = group("box")

NONCE = b"nonce-number"
each_system = pytest.mark.parametrize("es_version", box.NAMES)
each_size = pytest.mark.parametrize("size", [128, 256, 512])


def boxes_for(resolver: Resolver, *, ephemeral: bool = False) -> box.Boxes:
    if said := box.why_not(resolver.es_version):
        pytest.skip(said)
    signed = resolver.certificate(Provider())
    context = b"DNSCrypt-PQ-v1" + signed[4:8] + signed[72:]
    pair = None if ephemeral else box.KeyPair(os.urandom(32))
    return box.boxes(resolver.es_version, resolver.key, resolver.magic, os.urandom, pair=pair, context=context)


@each_system
@each_size
def test_seal(meter: Meter, es_version: int, size: int) -> None:
    message = material.dressed(material.query(1))[: size - 1]
    one = boxes_for(Resolver(es_version)).box(NONCE, 0.0)
    assert len(one.seal(message, NONCE, size)) == one.overhead + size
    meter.repeat(1, one.seal, message, NONCE, size)


@each_system
@each_size
def test_open(meter: Meter, es_version: int, size: int) -> None:
    message = material.query(1)
    answer = material.brief(message)
    resolver = Resolver(es_version)
    one = boxes_for(resolver).box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(message, NONCE, 256))
    packet = sealed.answer(answer, padding=b"\x80".ljust(size - len(answer), b"\0"))
    assert one.open(packet) == answer
    meter.repeat(1, one.open, packet)


@each_system
def test_ephemeral_seal(meter: Meter, es_version: int) -> None:
    message = material.query(1)
    boxes = boxes_for(Resolver(es_version), ephemeral=True)
    meter.repeat(1, lambda: boxes.box(NONCE, 0.0).seal(message, NONCE, 256))


def test_resumed_seal(meter: Meter) -> None:
    message = material.query(1)
    resolver = Resolver(box.XWING)
    boxes = boxes_for(resolver)
    one = boxes.box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(message, NONCE, 256))
    one.open(sealed.answer(material.brief(message)))
    assert boxes.box(NONCE, 0.0).seal(message, NONCE, 256).startswith(b"PQResume")
    meter.repeat(1, lambda: boxes.box(NONCE, 0.0).seal(message, NONCE, 256))
