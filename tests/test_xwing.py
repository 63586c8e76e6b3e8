"""xwing: the vectors of X-Wing and of the draft, tickets taken, kept, forgotten."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import replace

import pytest

from _udp2tls import box, xwing
from tests.provider import PROFILE, Resolver
from tests.test_box import MESSAGE, NONCE, REPLY, ask, boxes_for, iota

pytestmark = pytest.mark.skipif(bool(box.why_not(box.XWING)), reason=box.why_not(box.XWING))

# The cipher text of the draft's Appendix 3 in base64; its SHA-256 with the rest of the query is published.
TEXT = b64decode(
    "015gCD1TX+E5lM42h/8Lhhfot8SZi4siXu2aH2qIj8nWCdgb5NM/4pQACo4d6tjRToYDQgBq6YvAYMfPwpUDfBONKmw48QS4TPknc1YLavvYRJKs"
    "lyuAj0sHtfsopAAs6IbzczOt3X/X2dhlsFRW5afnWx64r5SBXW6NLayRC3biTruQSEnWo+YF4NLWQeeOynecW7DqecETQdNTQqZeOjdDuJ3S53r0"
    "Yr53wf5oAeqrYQE0+5NkanxCh88VVIriajL7HIW1J4YBJTEIrnLkxWxEQvWKuCOc6cETnexQWPgQkB79XXGHQf8Jc83xNKw/vFeMDP3/mYyi9P1A"
    "RyoUzdBQZ7JPHdxKMkeI0rP/1R2le4kSDobynqVI85/r9xZZ0IM34c/CqnjkQinYS6JR1jJaMOvMPi29h26pfor3Vek9/n6+Ls7JiNXoIO7RWazz"
    "0vTiFGmWowef5WJ0flq9+hKKd6gx0OmJGdfCTGugvfuHAh/oBEnhWgUCFGz/SHBmfZV/F+8IdyUX1gILVtNzFTj2gxXHT9OYf4jT1bqrgsdA14ic"
    "WsAHKX0cuVonoFP9HFHiMbUPhogBy7gjC7rRA/HWtIWSE1gZsVA5ym7M/dPamPhBJusa7mhmhqOEYJgjfya/UUNjhjIRiU11NIdfTUJKRlbVVAyh"
    "koEuh9axHErpE9DdAnPyRl5Btr//Q9vRLrDJQkUR1jj2CnCMXIzu0hfcacJDo068G80GrC6prBBwrPzpypf+fgiRf0jFGp7Sl2SuQgUV2swQ4adW"
    "zsz8IK6Ayy9zZTMuwK3PTiyYaCyyKkpY/K+aDdUJym6QgEJtRJNXIz4sTJUqXDKC2TnhcnA28S15byjxP0MkYSpSQIzJV8bAoa3ICOR10Td1luM0"
    "EGTMOxZrjsGfZAhehAfb1vXIxvGG1QS6TLv1uCXXZMQBB1yaAUKU9cd/I6CtJ1VyZ8t4l4Y1AidWymqQZ6VtqudeSHGrH07Ph2e9D5lOp5J2dhRW"
    "EwaK+Aq6l7uhwDvrHQqSW/fmNG99pNMHKWcS0L/zwPZU1Gfrh7yaQcyyD8V+fF4qPdn8sfNLlcqI3V5cfa9InXggn6DM2xrf5zWfo8ZYvTxCJEWV"
    "0fGU15z1HQRq+b435Xvog4uuxP+y00I3f/qPW9QFv9n76s2HFpeeHkubO63g2xJdWVfK7kWzpPT7OCjuoF0duYe8Pb8yZ9FmT4+BrOBaACjzzu7u"
    "0ANZfyn9Nnvp/PI6ABNlMgxdXlFc2jalbqrzBQ/xvEEhPfcDIbUqedqnjBcLPZ/9YzcH+8GCZgpax9TXwTX7qBKvc44As8XVjHxO6uyAK99rq9Xo"
    "0w4mioBfKlFzXkHVSveKjLQhbDRKHMXx+MmZ00VTF4SHUVDHOOemaRHnHGet8UxlN86VZUZt0ln/sS3FmltNzlh31lr06MWExM+/qZfkXA5nXdV0"
    "7XeJMQs9LnaB83kLRmx3OxUh/s82V3lYNx6lLw=="
)
TICKET = bytes.fromhex(
    "00000001d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e1d90c86474574e0e51e82d8a29938896b0999e827138f8f45"
    "2f21e044d9809f65a013cfad8981be94c1354178b3e03dd518c28bcbaab962aa45246e446de7763288aa4a01e207725a0ae7bc95452f"
    "ef3743f6083deb10cd23e2881e8d9307fc2f43bce1a97e"
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Scripted:
    """An ML-KEM public key that encapsulates as it did in the draft."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def from_public_bytes(self, data: bytes) -> Scripted:
        assert data == self._resolver.key[:1184]
        return self

    def encapsulate(self) -> tuple[bytes, bytes]:
        return self._resolver.lattice.decapsulate(TEXT[:1088]), TEXT[:1088]


@pytest.fixture
def drafts(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """The resolver of the draft's Appendix 3."""
    from cryptography.hazmat.primitives.asymmetric import mlkem

    resolver = Resolver(3, iota(32, 0x20), bytes.fromhex("a1b2c3d4e5f60718"), TICKET, 300)
    monkeypatch.setattr(mlkem, "MLKEM768PublicKey", Scripted(resolver))
    return resolver


def test_the_vectors_of_xwing_and_of_queries_with_and_without_a_ticket(drafts: Resolver) -> None:
    assert digest(drafts.key) == "a1f324bc0701f1234fbba7b11901023b3644f3bb8c6eb4ee4368d7e859eb6228"
    secret, text = xwing.encapsulate(drafts.key, iota(32, 0x60))
    assert secret.hex() == "8dac8602d4ce5e27e81335b54b25fdcaea86e56613214ee0522db4a5e0a38d50"
    assert text == TEXT
    assert drafts.decapsulate(text) == secret

    times = bytes.fromhex("000000016800000068015180")
    context = b"DNSCrypt-PQ-v1\0\3\0\0" + drafts.key + drafts.magic + times + PROFILE
    pair = box.KeyPair(b"c" * 32)
    boxes = box.boxes(3, drafts.key, drafts.magic, lambda size: iota(size, 0x60), pair=pair, context=context)
    one = boxes.box(iota(12, 0xB0), 0.0)
    packet = one.seal(MESSAGE, iota(12, 0xB0), box.tcp_size(len(MESSAGE), 0))
    assert (len(packet), one.overhead) == (1220, 1156)
    assert digest(packet) == "65c3421776283f503779916e7b5c32d0d41c885508ad892b349688db6c901233"

    drafts.signed = bytes(4) + b"\0\3\0\0" + bytes(64) + context[18:]
    _, sealed = drafts.open(packet)
    assert sealed.control is not None
    padding = b"\x80" + bytes(256 - 2 - 141 - len(REPLY) - 1)
    answer = sealed.answer(REPLY, iota(12, 0xC0), padding)
    assert digest(answer) == "33c081503d5ead4061a30d3f095fc9f226b8c01c3bbffa8fc6f4d9b15087de5c"
    assert one.open(answer) == REPLY
    assert drafts.secret.hex() == "df158804e3f8ddf383ff7c9d3128491b29437a894936ec72c68aed8a9553272b"

    two = boxes.box(iota(12, 0xF0), 299.0)
    packet = two.seal(MESSAGE, iota(12, 0xF0), two.least)
    assert (len(packet), two.overhead) == (424, 168)
    assert digest(packet) == "34be2e331b4d7c7e808e968c5efc9f25675a9de9064cb33f7c66950e0e4e6db7"
    _, sealed = drafts.open(packet)
    answer = sealed.answer(REPLY, iota(12, 0x10), b"\x80" + bytes(64 - 2 - len(REPLY) - 1))
    assert digest(answer) == "2bf202dd3f33d38854450e70a02bd1a317a23bf6d79c5dae406787c9c5f34f52"
    assert two.open(answer) == REPLY


def test_a_ticket_serves_until_it_expires_and_then_there_is_a_new_secret() -> None:
    resolver = Resolver(3, lifetime=600)
    boxes = boxes_for(resolver)
    first = ask(boxes, resolver, b"%012d" % 0, 1000.0)
    for number, now in ((1, 1000.0), (2, 1300.0), (3, 1599.9)):
        assert ask(boxes, resolver, b"%012d" % number, now)[:8] == b"PQResume"
    again = ask(boxes, resolver, b"%012d" % 4, 1600.0)
    assert again[:8] == first[:8] == resolver.magic
    assert again[8:1128] != first[8:1128]
    assert resolver.served == ["text", "resumed", "resumed", "resumed", "text"]


def test_queries_before_the_first_answer_share_one_cipher_text() -> None:
    resolver = Resolver(3)
    boxes = boxes_for(resolver)
    waiting = [boxes.box(b"", 0.0) for _ in range(3)]
    packets = [one.seal(MESSAGE, b"%012d" % number, 64) for number, one in enumerate(waiting)]
    assert len({packet[8:1128] for packet in packets}) == 1
    answers = [resolver.open(packet)[1].answer(REPLY) for packet in packets]
    # The answer that is here first brings the ticket; the resolver derived the last one's secret last.
    for one, answer in zip(waiting[::-1], answers[::-1], strict=True):
        assert one.open(answer) == REPLY
    assert ask(boxes, resolver)[:8] == b"PQResume"


def test_what_is_forgotten_is_not_learned_from_a_late_answer() -> None:
    resolver = Resolver(3)
    boxes = boxes_for(resolver)
    one = boxes.box(NONCE, 0.0)
    _, sealed = resolver.open(packet := one.seal(MESSAGE, NONCE, 64))
    boxes.forget()
    assert one.open(sealed.answer(REPLY)) == REPLY
    later = ask(boxes, resolver)
    assert later[:8] == resolver.magic
    assert later[8:1128] != packet[8:1128]
    assert ask(boxes, resolver)[:8] == b"PQResume"
    boxes.forget()
    assert ask(boxes, resolver)[:8] == resolver.magic


def test_ephemeral_queries_take_no_ticket() -> None:
    resolver = Resolver(3)
    boxes = boxes_for(resolver, ephemeral=True)
    assert len({ask(boxes, resolver)[8:1128] for _ in range(3)}) == 3
    assert resolver.served == ["text"] * 3


@pytest.mark.parametrize(
    "control",
    [b"", b"PQDR", b"PQDR\1\0\0\2\x58\0\0", b"PQDR\2\0\0\2\x58\0\1t", b"PQDX\1\0\0\2\x58\0\1t",
     b"PQDR\1\0\0\2\x58\0\2t", b"PQDR\1\0\0\2\x58\x08\1" + bytes(2049), b"x" * 30],
    ids=repr,
)  # fmt: skip
def test_control_blocks_without_a_good_ticket_are_passed_over(control: bytes) -> None:
    resolver = Resolver(3)
    boxes = boxes_for(resolver)
    one = boxes.box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(MESSAGE, NONCE, 64))
    assert one.open(replace(sealed, control=control).answer(REPLY)) == REPLY
    assert boxes.box(NONCE, 0.0).overhead == 1156


def test_a_control_block_past_the_end_is_refused() -> None:
    resolver = Resolver(3)
    one = boxes_for(resolver).box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(MESSAGE, NONCE, 64))
    for head in (b"\xff\xff", b"\0\x40"):
        with pytest.raises(box.Refused):
            one.open(replace(sealed, control=None).answer(head + REPLY))


def test_a_key_that_is_none_of_ml_kem_is_refused() -> None:
    with pytest.raises(box.WeakKey, match="ML-KEM"):
        box.check_key(box.XWING, b"\xff" * 1184 + box.KeyPair(b"c" * 32).public)
