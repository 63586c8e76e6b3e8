"""What an upstream may write besides, or instead of, the right answer.

A tamper is given the query and its right answer, and gives the bytes for the stream. Lies
are of the kind a forwarder can and must see through: a foreign ID, another question, no
response at all. A false record under the right ID and question is beyond any forwarder.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable

from tests.peers import asking, scripted

Tamper = Callable[[bytes, bytes], bytes]

_random = random.Random(2)


def nothing(query: bytes, answer: bytes) -> bytes:
    return asking.framed(answer)


def addresses_of(six: str, four: str) -> Tamper:
    """Answer instead with these addresses, whatever the name."""
    packed = {asking.AAAA: socket.inet_pton(socket.AF_INET6, six), asking.A: socket.inet_pton(socket.AF_INET, four)}

    def answer_with(query: bytes, answer: bytes) -> bytes:
        question = asking.question_of(query)
        kind = int.from_bytes(question[-4:-2], "big")
        if kind not in packed:
            return asking.framed(answer)
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(packed[kind])) + packed[kind]
        return asking.framed(query[:2] + b"\x81\x80\0\1\0\1" + bytes(4) + question + record)

    return answer_with


def duplicates(query: bytes, answer: bytes) -> bytes:
    return asking.framed(answer) * 2


def wrong_id(query: bytes, answer: bytes) -> bytes:
    id = (int.from_bytes(answer[:2], "big") + 1) % 65536
    return asking.framed(id.to_bytes(2, "big") + _lie(query)[2:]) + asking.framed(answer)


def wrong_question(query: bytes, answer: bytes) -> bytes:
    other = query[:12] + asking.wire_name("n9.other.example") + b"\0\1\0\1"
    return asking.framed(_lie(other)) + asking.framed(answer)


def wrong_type(query: bytes, answer: bytes) -> bytes:
    question = asking.question_of(query)
    other = query[:12] + question[:-4] + asking.TXT.to_bytes(2, "big") + question[-2:]
    return asking.framed(scripted.right_answer(other)) + asking.framed(answer)


def zero_length_frames(query: bytes, answer: bytes) -> bytes:
    return b"\0\0" + asking.framed(answer) + b"\0\0"


def garbage(query: bytes, answer: bytes) -> bytes:
    """Write bytes that are no frame; where the next frame begins is anybody's guess."""
    return _random.randbytes(61)


def mutations(query: bytes, answer: bytes) -> bytes:
    return asking.framed(mutated(answer)) + asking.framed(answer)


def mutated(answer: bytes) -> bytes:
    """Damage what a forwarder checks: the ID, the response bit, the question; or all of it."""
    end = 12 + len(asking.question_of(answer))
    kind = _random.randrange(4)
    if kind == 0:
        return _random.randbytes(_random.randrange(1, 120))
    if kind == 1:
        return answer[: _random.randrange(1, end)]
    if kind == 2:
        return answer[:2] + bytes((answer[2] ^ 0x80,)) + answer[3:]
    places = (0, 1, *range(13, end - 4))
    damaged = bytearray(answer)
    # Not by 0x20: names that differ in case alone are the same.
    damaged[_random.choice(places)] ^= _random.choice((1, 2, 4, 8, 16, 64, 128))
    return bytes(damaged)


def _lie(query: bytes) -> bytes:
    """Answer with an address that is never right."""
    answer = bytearray(scripted.right_answer(query))
    if len(answer) > len(query):
        answer[-12] = 66  # the address's last byte, before the OPT record
    return bytes(answer)
