"""pending: who waits for what, and that nobody gets an answer to another question."""

from __future__ import annotations

import contextlib
import math
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from _udp2tls import wire
from _udp2tls.pending import MAX_CLIENTS, Client, Pending, Query

QUESTION = b"\3www\7example\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"


def query(id: int = 0x1234, question: bytes = QUESTION, flags: bytes = b"\1\0", opt: bytes = b"") -> bytes:
    additional = b"\0\1" if opt else b"\0\0"
    return b"".join((id.to_bytes(2, "big"), flags, b"\0\1\0\0\0\0", additional, question, opt))


def answer(to: Query, question: bytes | None = None, flags: bytes = b"\x81\x80") -> bytes:
    said = to.message[12 : to.end] if question is None else question
    return b"".join((to.id, flags, b"\0\1\0\1\0\0\0\0", said, RECORD))


def hand_over(answer: bytes, address: Any) -> None:
    raise AssertionError("the table never answers by itself")


def udp(port: int) -> Client:
    return hand_over, ("127.0.0.1", port)


TCP: Client = (hand_over, None)


def table(limit: int = 100) -> Pending:
    return Pending(5.0, Random(1), limit)


def added(pending: Pending, message: bytes, client: Client = TCP, now: float = 0.0) -> Query:
    made = pending.add(message, client, now)
    assert made is not None
    return made


def answered(pending: Pending, message: bytes) -> bytes:
    matched = pending.match(message)
    assert matched is not None
    return matched[1]


def test_a_query_is_sent_as_it_came_and_its_answer_ends_it() -> None:
    pending = table()
    one = added(pending, query(opt=OPT), udp(1), 10.0)
    assert (one.message, one.id, one.opt, one.asked) == (query(opt=OPT), b"\x12\x34", one.end, 10.0)
    assert pending.deadline == 15.0
    assert pending.holds(one)
    assert pending.match(answer(one)) == (one, answer(one))
    assert not pending.holds(one)
    assert len(pending) == 0
    assert pending.match(answer(one)) is None
    assert (pending.unknown, pending.mismatched) == (1, 0)


def test_queries_the_same_in_every_byte_share_one() -> None:
    pending = table()
    one = added(pending, query(), udp(1))
    assert pending.add(query(), udp(2), 1.0) is None
    assert pending.add(query(), TCP, 1.0) is None
    assert one.clients == [udp(1), udp(2), TCP]
    assert (pending.coalesced, len(pending)) == (2, 1)
    assert pending.deadline == 5.0


def test_a_retransmission_gets_one_answer() -> None:
    pending = table()
    one = added(pending, query(), udp(1))
    for _ in range(3):
        assert pending.add(query(), udp(1), 1.0) is None
    assert one.clients == [udp(1)]


def test_duplicates_over_tcp_get_an_answer_each() -> None:
    pending = table()
    one = added(pending, query())
    assert pending.add(query(), TCP, 0.0) is None
    assert one.clients == [TCP, TCP]


def test_the_clients_of_one_query_are_bounded() -> None:
    pending = table()
    one = added(pending, query(), udp(1))
    for port in range(2, MAX_CLIENTS + 1):
        pending.add(query(), udp(port), 0.0)
    with pytest.raises(wire.Malformed) as caught:
        pending.add(query(), udp(9999), 0.0)
    assert caught.value.rcode == wire.REFUSED
    assert len(one.clients) == MAX_CLIENTS


def test_a_taken_id_is_replaced_on_the_way_and_given_back() -> None:
    pending = table()
    one = added(pending, query())
    other = added(pending, query(question=b"\3ftp\7example\0\0\1\0\1"))
    assert one.id == b"\x12\x34" != other.id
    assert answered(pending, answer(other)) == b"\x12\x34" + answer(other)[2:]
    assert answered(pending, answer(one)) == answer(one)


@pytest.mark.parametrize(
    "other",
    [
        query(opt=OPT), query(flags=b"\0\0"), query(flags=b"\1\x10"), query(question=b"\3wWw\7example\0\0\1\0\1"),
        query(question=b"\3www\7example\0\0\x1c\0\1"), query(question=b"\3www\7example\0\0\1\0\3"),
    ],
    ids=["EDNS", "RD", "CD", "letter case", "type", "class"],
)  # fmt: skip
def test_queries_that_differ_share_nothing(other: bytes) -> None:
    pending = table()
    one, two = added(pending, query()), added(pending, other)
    assert one.id != two.id
    assert answered(pending, answer(two))[: two.end][12:] == other[12 : two.end]
    assert pending.holds(one)


def test_the_letter_case_of_the_question_is_given_back() -> None:
    mixed = b"\3wWw\7eXaMpLe\0\0\1\0\1"
    pending = table()
    one = added(pending, query(question=mixed))
    assert answered(pending, answer(one, question=mixed.lower())) == answer(one, question=mixed)


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_a_refusal_without_question_gets_the_clients(rcode: int) -> None:
    pending = table()
    one = added(pending, query(), udp(1))
    other = added(pending, query(question=b"\1x\0\0\1\0\1"), udp(2))
    for waiting in (other, one):
        refusal = waiting.id + bytes((0x80, rcode)) + bytes(8)
        assert answered(pending, refusal) == wire.respond(waiting.message, waiting.end, rcode)


def test_an_answer_without_question_and_error_is_none() -> None:
    pending = table()
    one = added(pending, query())
    for header in (b"\x80\x80" + bytes(8), b"\x80\x82\0\0\0\1\0\0\0\0", b"\x80\x82\0\0\0\0\0\1\0\0"):
        assert pending.match(one.id + header + RECORD) is None
    assert pending.holds(one)
    assert pending.mismatched == 3


@pytest.mark.parametrize(
    ("flags", "question"),
    [
        (b"\x01\x80", QUESTION), (b"\xa1\x80", QUESTION), (b"\x89\x80", QUESTION),
        (b"\x81\x80", b"\3wwx\7example\0\0\1\0\1"), (b"\x81\x80", b"\3www\7example\0\0\2\0\1"),
        (b"\x81\x80", b"\3www\7example\0\0\1\0\2"), (b"\x81\x80", b"\0\0\1\0\1"), (b"\x81\x80", b""),
    ],
    ids=["QR", "NOTIFY", "IQUERY", "name", "type", "class", "short name", "nothing"],
)  # fmt: skip
def test_what_is_no_answer_is_counted_and_the_query_waits_on(flags: bytes, question: bytes) -> None:
    pending = table()
    one = added(pending, query())
    assert pending.match(answer(one, question, flags)) is None
    assert pending.match(answer(one, question, flags)[: one.end]) is None
    assert (pending.mismatched, pending.unknown) == (2, 0)
    assert answered(pending, answer(one)) == answer(one)


def test_two_questions_in_an_answer_are_none() -> None:
    pending = table()
    one = added(pending, query())
    assert pending.match(answer(one)[:5] + b"\2" + answer(one)[6:]) is None
    assert pending.holds(one)


def test_answers_cut_off_anywhere_do_no_harm() -> None:
    pending = table()
    one = added(pending, query())
    for size in range(one.end):
        assert pending.match(answer(one)[:size]) is None
    assert pending.unknown == 2  # not even an ID
    assert pending.mismatched == one.end - 2


def test_an_unknown_id_is_counted() -> None:
    pending = table()
    one = added(pending, query())
    assert pending.match(b"\x43\x21" + answer(one)[2:]) is None
    assert (pending.unknown, pending.mismatched) == (1, 0)


def test_the_time_of_queries_is_up_in_order() -> None:
    pending = table()
    assert pending.deadline == math.inf
    one, two, three = (added(pending, query(id), now=now) for id, now in ((1, 0.0), (2, 1.0), (3, 1.0)))
    assert pending.deadline == 5.0
    assert pending.oldest(4.999) == []
    assert pending.oldest(5.0) == [one]
    assert pending.deadline == 6.0
    assert pending.match(answer(one)) is None
    assert pending.oldest(60.0) == [two, three]
    assert len(pending) == 0


def test_above_the_limit_the_oldest_go() -> None:
    pending = table(limit=2)
    one, two, three, four = (added(pending, query(id)) for id in range(1, 5))
    assert pending.oldest(0.0) == [one, two]
    assert [pending.holds(q) for q in (one, two, three, four)] == [False, False, True, True]
    assert pending.oldest(5.0) == [three, four]


def test_clear_returns_everything_once() -> None:
    pending = table()
    both = [added(pending, query(1)), added(pending, query(2))]
    assert pending.clear() == both
    assert pending.clear() == []
    added(pending, query(1))


def test_written_to_finds_the_queries_of_one_link() -> None:
    pending = table()
    one, two, three = (added(pending, query(id)) for id in range(3))
    link: Any = object()
    one.link = three.link = link
    assert pending.written_to(link) == [one, three]
    assert not pending.holds(Query(two.message, two.end, 0, two.id, TCP, 0.0))


def test_malformed_queries_leave_no_trace() -> None:
    pending = table()
    with pytest.raises(wire.Malformed):
        pending.add(query() + b"\0", TCP, 0.0)
    assert len(pending) == 0
    assert pending.clear() == []


def numbered(number: int) -> bytes:
    return b"\4" + number.to_bytes(4, "big") + b"\0\0\1\0\1"


def test_ids_stay_unique_with_60000_pending() -> None:
    pending = table(limit=60000)
    made = [added(pending, query(number % 7, numbered(number))) for number in range(60000)]
    assert len({one.id for one in made}) == 60000
    assert pending.oldest(0.0) == []
    for one in Random(2).sample(made, 1000):
        assert pending.match(answer(one)) == (one, one.message[:2] + answer(one)[2:])


class _Bounded(Random):
    """Fails where a search for a free ID would have no end."""

    calls = 0

    def randbytes(self, n: int) -> bytes:
        self.calls += 1
        assert self.calls < 1_000_000, "the search for a free ID has no end"
        return super().randbytes(n)


def test_more_queries_than_there_are_ids_do_not_hang() -> None:
    """Queries over TCP are not trimmed before a whole turn is over."""
    pending = Pending(5.0, _Bounded(1))
    for number in range(65536):
        with contextlib.suppress(wire.Malformed):
            pending.add(query(number, numbered(number)), TCP, 0.0)
    with contextlib.suppress(wire.Malformed):
        pending.add(query(1, numbered(70000)), TCP, 0.0)


NAMES = [b"\1a\0", b"\1A\0", b"\1b\0", b"\2ab\0"]


class Interleaved(RuleBasedStateMachine):
    """Few IDs and questions, so that they meet often; a model of who waits for what."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending(5.0, Random(3), limit=6)
        self.now = 0.0
        self.waiting: dict[bytes, Query] = {}

    @rule(id=st.integers(0, 2), name=st.sampled_from(NAMES), kind=st.sampled_from([1, 65, 97]), port=st.integers(1, 3))
    def add(self, id: int, name: bytes, kind: int, port: int) -> None:
        message = query(id, name + bytes((0, kind, 0, 1)))
        made = self.pending.add(message, udp(port), self.now)
        assert (made is None) == (message in self.waiting)
        if made:
            self.waiting[message] = made
        assert udp(port) in self.waiting[message].clients

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), name=st.sampled_from(NAMES), kind=st.sampled_from([1, 65, 97]))
    def match(self, data: st.DataObject, name: bytes, kind: int) -> None:
        asked = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
        said = answer(asked, name + bytes((0, kind, 0, 1)))
        right = name.lower() == asked.message[12 : asked.end - 4].lower() and kind == asked.message[asked.end - 3]
        matched = self.pending.match(said)
        assert (matched is not None) == right
        if matched:
            assert matched == (asked, asked.message[:2] + said[2:12] + asked.message[12 : asked.end] + RECORD)
            del self.waiting[asked.message]

    @rule(passed=st.floats(0, 3))
    def oldest(self, passed: float) -> None:
        self.now += passed
        queue = list(self.waiting.values())
        over = max(0, len(queue) - 6)
        expected = queue[:over] + [one for one in queue[over:] if one.asked + 5.0 <= self.now]
        assert self.pending.oldest(self.now) == expected
        for one in expected:
            del self.waiting[one.message]

    @invariant()
    def ids_in_flight_are_unique(self) -> None:
        assert len({one.id for one in self.waiting.values()}) == len(self.waiting) == len(self.pending)
        assert all(map(self.pending.holds, self.waiting.values()))


Interleaved.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestInterleaved = Interleaved.TestCase
