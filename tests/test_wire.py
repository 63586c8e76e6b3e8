"""wire: reading just enough of a message, and never past its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import wire

NAME = b"\3www\7example\0"
QUESTION = NAME + b"\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
TSIG = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\x02ab"
RECORD = NAME + b"\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
SIG0 = b"\0\0\x18\0\xff\0\0\0\0\0\x02ab"
HEADER_END = wire.HEADER

LABEL_63 = b"\x3f" + b"x" * 63
NAME_255 = LABEL_63 * 3 + b"\x3d" + b"y" * 61 + b"\0"
NAME_256 = LABEL_63 * 3 + b"\x3e" + b"y" * 62 + b"\0"


def query(
    *additional: bytes, question: bytes = QUESTION, flags: int = 0x0100,
    counts: tuple[int, int, int] = (1, 0, 0), tail: bytes = b"",
) -> bytes:  # fmt: skip
    numbers = (0x1234, flags, *counts, len(additional))
    return b"".join((*(n.to_bytes(2, "big") for n in numbers), question, *additional, tail))


def opt(options: bytes = b"", name: bytes = b"\0") -> bytes:
    return name + b"\0\x29\4\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options


def refused(message: bytes) -> int:
    with pytest.raises(wire.Malformed) as caught:
        wire.parse_query(message)
    assert str(caught.value)
    return caught.value.rcode


@pytest.mark.parametrize(
    "name", [b"\0", NAME, b"\3a\0b\0", b"\1\0\1\0\0", LABEL_63 + b"\0", NAME_255, b"\x01a" * 127 + b"\0"],
    ids=["root", "plain", "NUL in a label", "labels of one NUL", "63-byte label", "255 bytes", "127 labels"],
)  # fmt: skip
def test_question_end_is_behind_the_class(name: bytes) -> None:
    message = query(question=name + b"\0\1\0\1", tail=b"behind")
    assert wire.question_end(message) == HEADER_END + len(name) + 4
    assert b"".join(dnslib.DNSRecord.parse(message[:-6]).q.qname.label) == wire_labels(name)


def wire_labels(name: bytes) -> bytes:
    labels, at = [], 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return b"".join(labels)


@pytest.mark.parametrize(
    "name", [NAME_256, LABEL_63 * 4 + b"\0", b"\xc0\x0c", b"\3www\xc0\x0c", b"\x40" + b"x" * 64 + b"\0", b"\x80\0"],
    ids=["256 bytes", "257 bytes", "pointer", "pointer behind a label", "64-byte label", "reserved label type"],
)  # fmt: skip
def test_question_end_refuses(name: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.question_end(query(question=name + b"\0\1\0\1", tail=bytes(300)))


@pytest.mark.parametrize("name", [NAME, NAME_255, b"\3a\0b\0"])
def test_a_question_cut_off_anywhere_is_malformed(name: bytes) -> None:
    message = query(question=name + b"\0\1\0\1")
    for size in range(HEADER_END, len(message)):
        with pytest.raises(wire.Malformed):
            wire.question_end(message[:size])
        assert refused(message[:size]) == wire.FORMERR


def test_a_plain_query_has_no_opt() -> None:
    assert wire.parse_query(query()) == (HEADER_END + len(QUESTION), 0)


@pytest.mark.parametrize("options", [b"", b"\0\x0a\0\x08cookiies", b"\0\x0c\0\0\0\x0b\0\0"])
def test_the_opt_record_is_found(options: bytes) -> None:
    end = HEADER_END + len(QUESTION)
    assert wire.parse_query(query(opt(options))) == (end, end)


@pytest.mark.parametrize(
    "additional", [(OPT, TSIG), (TSIG, OPT), (TSIG,), (SIG0,), (OPT, SIG0), (OPT, RECORD)],
    ids=["OPT TSIG", "TSIG OPT", "TSIG", "SIG(0)", "OPT SIG(0)", "record behind OPT"],
)  # fmt: skip
def test_signed_queries_and_those_with_other_records_are_sealed(additional: tuple[bytes, ...]) -> None:
    assert wire.parse_query(query(*additional)) == (HEADER_END + len(QUESTION), wire.SEALED)


@pytest.mark.parametrize(
    "message",
    [
        query(OPT, OPT),
        query(opt(name=b"\3www\0")),
        query(opt(b"\0\x0a\0\x09cookiies")),
        query(opt(b"\0\x0a\0")),
        query(opt(b"\0\x0a\0\0\0")),
        query(OPT[:-2] + b"\0\1"),
        query(question=b"", counts=(0, 0, 0)),
        query(question=QUESTION * 2, counts=(2, 0, 0)),
        query(question=QUESTION + OPT, counts=(1, 1, 0)),
        query(question=QUESTION + OPT, counts=(1, 0, 1)),
        query(tail=b"\0"),
        query(OPT, tail=b"\0"),
        query(*[TSIG] * 9),
    ],
    ids=[
        "two OPTs", "OPT with a name", "option past its record", "option head cut off", "half an option head",
        "OPT past the message", "no question", "two questions", "an answer record", "an authority record",
        "trailing byte", "trailing byte behind OPT", "nine additional records",
    ],
)  # fmt: skip
def test_broken_queries_are_format_errors(message: bytes) -> None:
    assert refused(message) == wire.FORMERR


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    assert refused(query(flags=opcode << 11)) == wire.NOTIMP


def test_only_zone_transfers_are_not_implemented_among_types() -> None:
    for qtype in (*range(240, 260), wire.TYPE_AXFR + 256, wire.TYPE_IXFR + 256, 65535):
        message = query(question=NAME + qtype.to_bytes(2, "big") + b"\0\1")
        if qtype in (wire.TYPE_AXFR, wire.TYPE_IXFR):
            assert refused(message) == wire.NOTIMP
        else:
            assert wire.parse_query(message) == (len(message), 0)


@pytest.mark.parametrize("name", [b"\0", NAME, b"\xc0\x0c", b"\3www\xc0\x0c", b"\2\xc0\0\0"])
def test_skip_record_steps_over_names_of_every_kind(name: bytes) -> None:
    record = name + b"\0\x10\0\1\0\0\0\0\0\3abc"
    message = b"front" + record + b"behind"
    assert wire.skip_record(message, 5) == (16, 5 + len(record))
    for size in range(5, 5 + len(record)):
        with pytest.raises(wire.Malformed):
            wire.skip_record(message[:size], 5)


def test_skip_record_refuses_reserved_label_types() -> None:
    with pytest.raises(wire.Malformed):
        wire.skip_record(b"\x40" + bytes(100), 0)


def answer(records: int, authority: int, *additional: str, with_opt: bool = True) -> bytes:
    made = dnslib.DNSRecord.question("www.example").reply()
    for number in range(records):
        made.add_answer(*dnslib.RR.fromZone(f"www.example. 60 IN A 192.0.2.{number}"))
    for number in range(authority):
        made.add_auth(*dnslib.RR.fromZone(f"example. 60 IN NS ns{number}.other."))
    for text in additional:
        made.add_ar(*dnslib.RR.fromZone(text))
    if with_opt:
        made.add_ar(dnslib.EDNS0(udp_len=1232))
    packed: bytes = made.pack()
    return packed


@pytest.mark.parametrize(
    "shape", [(0, 0), (1, 0), (3, 2), (0, 1), (2, 1, "ns0.other. 60 IN A 192.0.2.1"), (20, 0, "x.y. 60 IN TXT z")]
)
def test_find_opt_walks_every_section(shape: tuple[int, int]) -> None:
    message = answer(*shape)
    end = wire.question_end(message)
    assert wire.find_opt(message, end) == (len(message) - 11, len(message))
    assert wire.find_opt(answer(*shape, with_opt=False), end) == (0, 0)
    for whole in (message, message[:10] + b"\0\0" + message[12:-11] if len(shape) == 2 else message):
        for size in range(end, len(whole)):
            with pytest.raises(wire.Malformed):
                wire.find_opt(whole[:size], end)


def test_find_opt_sees_an_opt_with_records_behind_it() -> None:
    message = query(opt(b"\0\x0c\0\x02ab"), TSIG, flags=0x8180)
    end = HEADER_END + len(QUESTION)
    assert wire.find_opt(message, end) == (end, end + 17)


def test_find_opt_looks_among_additional_records_only() -> None:
    message = query(question=QUESTION + OPT, flags=0x8180, counts=(1, 1, 0))
    assert wire.find_opt(message, HEADER_END + len(QUESTION)) == (0, 0)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0x0000, 0x8080),  # RA alone
        (0x0100, 0x8180),  # RD is copied
        (0x0110, 0x8190),  # CD is copied
        (0x0120, 0x8180),  # AD is not
        (0x0140, 0x8180),  # Z is not
        (0x0400, 0x8080),  # AA is not
        (0x0200, 0x8080),  # TC is not
        (0x2800, 0xA880),  # the opcode is copied
        (0x7900, 0xF980),
        (0x000F, 0x8080),  # what stands in a query's rcode is not
    ],
)
def test_respond_copies_the_flags_that_are_the_clients(flags: int, expected: int) -> None:
    message = query(flags=flags)
    end = HEADER_END + len(QUESTION)
    plain = wire.respond(message, end, wire.SERVFAIL)
    assert plain[:2] == message[:2]
    assert int.from_bytes(plain[2:4], "big") == expected | wire.SERVFAIL
    assert int.from_bytes(wire.respond(message, end, 0, truncated=True)[2:4], "big") == expected | 0x0200


def test_respond_counts_what_it_holds() -> None:
    end = HEADER_END + len(QUESTION)
    assert wire.respond(query(), end, 2)[4:] == b"\0\1\0\0\0\0\0\0" + QUESTION
    assert wire.respond(query(OPT), end, 2, tail=OPT)[4:] == b"\0\1\0\0\0\0\0\1" + QUESTION + OPT
    assert wire.respond(query(), HEADER_END, 1)[4:] == bytes(8)
    parsed = dnslib.DNSRecord.parse(wire.respond(query(OPT), end, wire.REFUSED, tail=OPT))
    assert (parsed.header.rcode, str(parsed.q.qname), len(parsed.ar)) == (wire.REFUSED, "www.example.", 1)


def same(one: bytes, other: bytes) -> bool:
    return wire.same_question(query(question=one), query(question=other), HEADER_END + len(one))


def test_the_letter_case_of_a_name_is_no_difference() -> None:
    assert same(QUESTION, b"\3WwW\7eXAMPLE\0\0\1\0\1")
    assert not same(QUESTION, b"\3www\7exbmple\0\0\1\0\1")
    assert not same(b"\1@\0\0\1\0\1", b"\1`\0\0\1\0\1")
    assert not same(b"\1[\0\0\1\0\1", b"\1{\0\0\1\0\1")
    assert not same(b"\1\xc1\0\0\1\0\1", b"\1\xe1\0\0\1\0\1")  # only ASCII has letters here


def test_type_and_class_are_compared_as_numbers() -> None:
    assert not same(NAME + b"\0\x41\0\1", NAME + b"\0\x61\0\1")  # TYPE65 and TYPE97
    assert not same(NAME + b"\0\1\0\x41", NAME + b"\0\1\0\x61")
    assert same(NAME + b"\0\x41\0\1", NAME + b"\0\x41\0\1")


READERS: list[Callable[[bytes], object]] = [
    wire.parse_query,
    wire.question_end,
    lambda message: wire.find_opt(message, 12),
    lambda message: wire.find_opt(message, wire.question_end(message)),
    lambda message: wire.skip_record(message, 12),
    lambda message: wire.check_options(message, 12, len(message)),
]


def only_malformed(message: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(wire.Malformed):
            read(message)


@settings(max_examples=300)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\0\0\1\0\0\1\0\0\0\0\0\1", b"\0\0\x81\0\0\1\0\2\0\1\0\2"]))
def test_random_bytes_are_malformed_at_worst(data: bytes, header: bytes) -> None:
    only_malformed((header + data).ljust(wire.HEADER, b"\0"))


SEEDS = [query(), query(opt(b"\0\x0a\0\x08cookiies")), query(OPT, TSIG), answer(2, 1), answer(1, 0, "a. 1 IN NS b.")]
EDITS = st.lists(st.tuples(st.integers(4, 200), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=4)


@settings(max_examples=500)
@given(st.sampled_from(SEEDS), EDITS)
def test_damaged_messages_are_malformed_at_worst(message: bytes, edits: list[tuple[int, bytes, int]]) -> None:
    for at, put, dropped in edits:
        at = 4 + at % len(message[4:])
        message = message[:at] + put + message[at + dropped :]
    only_malformed(message.ljust(wire.HEADER, b"\0"))


LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=4).filter(lambda labels: sum(map(len, labels)) < 240)
TYPES = st.integers(1, 65535).filter(lambda number: number not in (wire.TYPE_AXFR, wire.TYPE_IXFR))


@settings(max_examples=200)
@given(LABELS, TYPES, st.none() | st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=40)), max_size=4))
def test_valid_queries_parse_to_their_end(
    labels: list[bytes], qtype: int, options: list[tuple[int, bytes]] | None
) -> None:
    record = dnslib.DNSRecord(q=dnslib.DNSQuestion(dnslib.DNSLabel(labels), qtype))
    plain = len(record.pack())
    if options is not None:
        record.add_ar(dnslib.EDNS0(opts=[dnslib.EDNSOption(*option) for option in options]))
    message = record.pack()
    assert wire.parse_query(message) == (plain, 0 if options is None else plain)
