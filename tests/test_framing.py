"""framing: where messages begin and end never depends on how the stream was cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls.codec import ConnectionLost
from _udp2tls.framing import MAX_MESSAGE, Framing

SIZES = [1, 12, 255, 256, 512, 4096, 65535]


def message(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


def framed(*messages: bytes) -> bytes:
    return b"".join(len(m).to_bytes(2, "big") + m for m in messages)


def receive_each(codec: Framing, chunks: list[bytes]) -> list[bytes]:
    return [m for chunk in chunks for m in codec.receive((chunk,), 0.0)]


@pytest.mark.parametrize("size", SIZES)
def test_send_puts_the_length_before_the_message(size: int) -> None:
    codec = Framing()
    codec.send([message(size)], 0.0)
    assert b"".join(codec.outgoing()) == size.to_bytes(2, "big") + message(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_message_is_received_at_once(size: int) -> None:
    codec = Framing()
    assert codec.receive((framed(message(size)),), 0.0) == [message(size)]
    assert not codec.partial
    assert codec.eof(0.0) == []


@pytest.mark.parametrize("size", SIZES[:-1])
def test_every_split_in_two_gives_the_same_messages(size: int) -> None:
    sent = [message(size), message(3)]
    stream = framed(*sent)
    for cut in range(len(stream) + 1):
        codec = Framing()
        assert receive_each(codec, [stream[:cut], stream[cut:]]) == sent
        assert not codec.partial


@pytest.mark.parametrize("cut", [1, 2, 3, 255, 256, 65534, 65536, 65537, 65538, 65539, 65540])
def test_the_longest_message_may_be_split(cut: int) -> None:
    sent = [message(MAX_MESSAGE), message(2)]
    stream = framed(*sent)
    assert receive_each(Framing(), [stream[:cut], stream[cut:]]) == sent


@pytest.mark.parametrize("size", [1, 12, 255, 256, 512])
def test_byte_by_byte_gives_the_same_messages(size: int) -> None:
    stream = framed(message(size), message(1), message(size))
    assert receive_each(Framing(), [stream[i : i + 1] for i in range(len(stream))]) == [
        message(size), message(1), message(size)
    ]  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(0, 2500), max_size=12), st.integers(1, 4))
def test_any_messages_in_any_pieces(messages: list[bytes], cuts: list[int], together: int) -> None:
    """Pieces come one by one and several in one call; empty frames are no messages."""
    stream = framed(*messages)
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(borders)]
    codec = Framing()
    received = []
    for first in range(0, len(pieces), together):
        received += codec.receive(pieces[first : first + together], 0.0)
    assert received == [m for m in messages if m]
    assert codec.eof(0.0) == []


def test_frames_of_length_zero_are_skipped() -> None:
    assert Framing().receive((b"\0\0",), 0.0) == []
    assert Framing().receive((b"\0\0" * 5 + framed(b"abc") + b"\0\0",), 0.0) == [b"abc"]
    codec = Framing()
    assert receive_each(codec, [b"\0", b"\0", b"\0", b"\0\0", b"\1x\0\0"]) == [b"x"]
    assert codec.eof(0.0) == []


def test_partial_is_true_inside_a_message() -> None:
    codec = Framing()
    seen = [codec.partial]
    for piece in (b"\0", b"\3", b"a", b"bc", b"\0\1x\0", b"\1y"):
        codec.receive((piece,), 0.0)
        seen.append(codec.partial)
    assert seen == [False, True, True, True, False, True, False]


@pytest.mark.parametrize("tail", [b"\0", b"\0\2", b"\0\2a"])
def test_an_end_inside_a_message_is_a_lost_connection(tail: bytes) -> None:
    codec = Framing()
    assert codec.receive((framed(b"whole") + tail,), 0.0) == [b"whole"]
    with pytest.raises(ConnectionLost, match=rf"{len(tail)} bytes"):
        codec.eof(0.0)


def test_both_ends_agree_on_many_messages_at_once() -> None:
    messages = [message(size) for size in SIZES] * 3
    sender, receiver = Framing(), Framing()
    sender.send(messages, 0.0)
    assert receiver.receive(sender.outgoing(), 0.0) == messages
