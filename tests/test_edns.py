"""edns: what this hop adds to a query comes off its answer again, and nothing else does."""

from __future__ import annotations

from random import Random

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import edns, wire

NAME = b"\3www\7example\0"
QUESTION = NAME + b"\0\1\0\1"
END = wire.HEADER + len(QUESTION)
ID = b"\xab\xcd"

KEEPALIVE = b"\0\x0b\0\2\0\x64"  # ten seconds
PADDING = b"\0\x0c\0\5\0\0\0\0\0"
COOKIE = b"\0\x0a\0\x08cookiies"
SUBNET = b"\0\x08\0\7\0\1\x18\0\xc0\0\2"

# A record whose name is a pointer to the question, and one whose name is written out.
SHORT = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
LONG = b"\1a\2bc\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\2"
TSIG = b"\3key\0\0\xfa\0\xff\0\0\0\0\0\x02ab"

Option = tuple[int, bytes]


def opt(options: bytes = b"", size: int = 1232, flags: int = 0) -> bytes:
    fixed = b"\0\0\x29" + size.to_bytes(2, "big") + b"\0\0" + flags.to_bytes(2, "big")
    return fixed + len(options).to_bytes(2, "big") + options


def query(*additional: bytes, question: bytes = QUESTION, flags: bytes = b"\1\0") -> bytes:
    count = len(additional).to_bytes(2, "big")
    return b"".join((b"\x12\x34", flags, b"\0\1\0\0\0\0", count, question, *additional))


def answer(records: tuple[bytes, ...] = (), additional: tuple[bytes, ...] = ()) -> bytes:
    counts = b"\0\1" + len(records).to_bytes(2, "big") + b"\0\0" + len(additional).to_bytes(2, "big")
    return b"".join((b"\x12\x34\x81\x80", counts, QUESTION, *records, *additional))


def dressed(message: bytes) -> bytes:
    return edns.dress(message, wire.parse_query(message)[1], ID)


def options_of(message: bytes) -> list[Option]:
    """Read the options of the one additional record; dnslib misses an empty last one."""
    record = dnslib.DNSRecord.parse(message)
    assert [r.rtype for r in record.ar] == [wire.TYPE_OPT]
    at, stop = wire.find_opt(message, wire.question_end(message))
    rest, found = message[at + 11 : stop], []
    while rest:
        size = int.from_bytes(rest[2:4], "big")
        found.append((int.from_bytes(rest[:2], "big"), rest[4 : 4 + size]))
        rest = rest[4 + size :]
    return found


def name_of(size: int) -> bytes:
    """Make a name of ``size`` bytes, 1 and 3 to 255."""
    labels = []
    while size > 1:
        length = min(63, size - 2)
        if size - length - 1 == 2:  # one byte would be left for a label without content
            length -= 1
        labels.append(bytes((length,)) + b"x" * length)
        size -= length + 1
    return b"".join(labels) + b"\0"


@pytest.mark.parametrize("with_opt", [False, True])
def test_queries_of_every_size_are_padded_to_blocks_of_128(with_opt: bool) -> None:
    for size in (1, *range(3, 256)):
        message = query(*[opt(COOKIE)] * with_opt, question=name_of(size) + b"\0\x1c\0\1", flags=b"\1\x30")
        out = dressed(message)
        assert len(out) % 128 == 0
        assert len(out) < len(message) + 128 + 19
        assert out[:2] == ID
        before, after = dnslib.DNSRecord.parse(message), dnslib.DNSRecord.parse(out)
        assert after.q == before.q
        assert after.header.bitmap == before.header.bitmap
        assert wire.parse_query(out) == (wire.HEADER + size + 4, wire.HEADER + size + 4)
        codes = [code for code, _ in options_of(out)]
        assert codes == [10] * with_opt + [edns.KEEPALIVE, edns.PADDING]


def test_a_clients_options_are_kept_and_its_own_padding_and_keepalive_replaced() -> None:
    out = dressed(query(opt(COOKIE + PADDING + SUBNET + KEEPALIVE, size=4096, flags=0x8000)))
    *kept, keepalive, padding = options_of(out)
    assert kept == [(10, b"cookiies"), (8, b"\0\1\x18\0\xc0\0\2")]
    assert keepalive == (edns.KEEPALIVE, b"")  # RFC 7828: empty in a query
    assert padding[0] == edns.PADDING
    assert not any(padding[1])
    assert out[END : END + 9] == opt(size=4096, flags=0x8000)[:9]
    assert len(out) == 128


def test_sealed_messages_get_their_id_and_nothing_else() -> None:
    for message in (query(opt(PADDING), TSIG), query(TSIG)):
        assert dressed(message) == ID + message[2:]


def test_no_query_grows_past_what_a_frame_can_hold() -> None:
    empty = len(query(opt(b"\xff\xf0\0\0")))
    for size in range(65535 - 300, 65536):
        message = query(opt(b"\xff\xf0" + (size - empty).to_bytes(2, "big") + bytes(size - empty)))
        assert len(message) == size
        out = dressed(message)
        assert len(out) <= 65535
        assert out == ID + message[2:] or len(out) % 128 == 0
        assert wire.parse_query(out)[0] == END


def test_an_opt_goes_for_clients_that_had_none() -> None:
    plain = answer((SHORT, LONG))
    wrapped = answer((SHORT, LONG), (opt(COOKIE + KEEPALIVE + PADDING),))
    assert edns.undress(wrapped, END, False) == (plain, 100)
    assert edns.undress(plain, END, False) == (plain, None)
    assert edns.undress(answer((), (SHORT, LONG)), END, False) == (answer((), (SHORT, LONG)), None)


def test_only_padding_and_keepalive_go_for_clients_that_had_one() -> None:
    wrapped = answer((SHORT,), (opt(PADDING + COOKIE + KEEPALIVE + SUBNET, 4096, 0x8000),))
    assert edns.undress(wrapped, END, True) == (answer((SHORT,), (opt(COOKIE + SUBNET, 4096, 0x8000),)), 100)
    untouched = answer((SHORT,), (opt(COOKIE + SUBNET),))
    assert edns.undress(untouched, END, True) == (untouched, None)


@pytest.mark.parametrize("keep", [False, True])
def test_records_around_the_opt_stay(keep: bool) -> None:
    for front, behind in (((LONG,), (SHORT,)), ((), (LONG, SHORT)), ((SHORT,), ()), ((), (TSIG,))):
        wrapped = answer((SHORT,), (*front, opt(COOKIE + PADDING), *behind))
        kept = (opt(COOKIE),) * keep
        assert edns.undress(wrapped, END, keep)[0] == answer((SHORT,), (*front, *kept, *behind))


@pytest.mark.parametrize("keep", [False, True])
def test_names_compressed_among_records_behind_the_opt_stay_what_they_were(keep: bool) -> None:
    first = len(answer((), (opt(PADDING),)))
    pointing = b"\1x" + (0xC000 | first).to_bytes(2, "big") + LONG[6:]
    wrapped = answer((), (opt(PADDING), LONG, pointing))
    assert [str(r.rname) for r in dnslib.DNSRecord.parse(wrapped).ar[1:]] == ["a.bc.", "x.a.bc."]
    bare = dnslib.DNSRecord.parse(edns.undress(wrapped, END, keep)[0])
    assert [str(r.rname) for r in bare.ar[keep:]] == ["a.bc.", "x.a.bc."]


@pytest.mark.parametrize(
    ("option", "value"),
    [(KEEPALIVE, 100), (b"\0\x0b\0\2\0\0", 0), (b"\0\x0b\0\2\xff\xff", 65535), (b"\0\x0b\0\0", None), (b"", None),
     (b"\0\x0b\0\3\0\0\1", None)],
)  # fmt: skip
def test_the_keepalive_value_is_reported(option: bytes, value: int | None) -> None:
    for keep in (False, True):
        assert edns.undress(answer((SHORT,), (opt(COOKIE + option),)), END, keep)[1] == value


@pytest.mark.parametrize("options", [b"\0\x0c\0\6\0\0\0\0\0", b"\0\x0c\0", COOKIE + b"\0"])
def test_options_that_do_not_add_up_are_malformed(options: bytes) -> None:
    with pytest.raises(wire.Malformed):
        edns.undress(answer((), (opt(options),)), END, True)


OPTIONS = st.lists(
    st.tuples(st.integers(0, 65535).filter(lambda code: code not in (11, 12)), st.binary(max_size=20)), max_size=4
)
HOP = st.lists(st.sampled_from([PADDING, KEEPALIVE, b"\0\x0c\0\0", b"\0\x0b\0\0"]), max_size=3)
RECORDS = st.lists(st.sampled_from([SHORT, LONG]), max_size=4)


def encode(options: list[Option]) -> list[bytes]:
    return [code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for code, data in options]


@settings(max_examples=200)
@given(OPTIONS, HOP, RECORDS, RECORDS, RECORDS, st.booleans(), st.randoms(use_true_random=False))
def test_an_undressed_answer_is_what_a_plain_server_would_have_said(
    own: list[Option], hop: list[bytes], records: list[bytes], front: list[bytes], behind: list[bytes], keep: bool,
    random: Random,
) -> None:  # fmt: skip
    kept = encode(own)
    both = list(kept)
    for option in hop:
        both.insert(random.randint(0, len(both)), option)
    plain = answer(tuple(records), (*front, *[opt(b"".join(kept))] * keep, *behind))
    wrapped = answer(tuple(records), (*front, opt(b"".join(both)), *behind))
    out, keepalive = edns.undress(wrapped, END, keep)
    assert out == plain
    assert keepalive == (100 if KEEPALIVE in hop else None)


@pytest.mark.parametrize(
    ("claimed", "limit"), [(0, 512), (511, 512), (512, 512), (513, 513), (1232, 1232), (1233, 1232), (65535, 1232)]
)
def test_udp_answers_are_as_large_as_the_client_takes_and_we_send(claimed: int, limit: int) -> None:
    message = query(opt(COOKIE, size=claimed))
    assert edns.udp_size(message, END) == limit
    assert edns.udp_size(message, END, cap=600) == min(600, limit)


def test_udp_answers_without_edns_are_512_bytes_at_most() -> None:
    assert edns.udp_size(query(), 0) == 512
    assert edns.udp_size(query(opt(), TSIG), wire.SEALED) == 512


def test_errors_say_why_where_the_client_can_read_it() -> None:
    message = query(opt(COOKIE, size=4096))
    said = edns.error(message, END, END, wire.SERVFAIL, edns.NETWORK_ERROR, "no route")
    assert said[:4] == b"\x12\x34\x81\x82"
    assert options_of(said) == [(15, b"\0\x17no route")]
    assert wire.question_end(said) == END
    assert options_of(edns.error(message, END, END, 2, edns.OTHER)) == [(15, b"\0\0")]


@pytest.mark.parametrize("found", [0, wire.SEALED])
def test_errors_for_clients_without_edns_have_no_opt(found: int) -> None:
    said = edns.error(query(), END, found, wire.SERVFAIL, edns.OTHER, "why")
    assert said == wire.respond(query(), END, wire.SERVFAIL)


def test_errors_fit_512_bytes_and_their_text_stays_utf_8() -> None:
    question = name_of(255) + b"\0\1\0\1"
    end = wire.HEADER + len(question)
    for text in ("x" * 1000, "é" * 1000, "x" + "é" * 1000, "xx€" * 1000, "\ud800"):
        said = edns.error(query(opt(), question=question), end, end, 2, edns.OTHER, text)
        assert len(said) <= 512
        [(_, data)] = options_of(said)
        assert data[2:].decode("utf-8")


def test_truncate_keeps_the_question_and_the_opt_and_sets_tc() -> None:
    record = opt(COOKIE, size=4096, flags=0x8000)
    for additional in ((record,), (LONG, record), (record, LONG)):
        whole = answer((SHORT,) * 60, additional)
        cut = edns.truncate(whole, END, 512)
        assert cut == b"\x12\x34\x83\x80\0\1\0\0\0\0\0\1" + QUESTION + record
        assert dnslib.DNSRecord.parse(cut).header.tc
    assert edns.truncate(answer((SHORT,) * 60), END, 512) == b"\x12\x34\x83\x80\0\1\0\0\0\0\0\0" + QUESTION


def test_truncate_stays_within_the_limit_though_options_must_go() -> None:
    for size in range(400, 600):
        option = b"\xff\xf0" + size.to_bytes(2, "big") + bytes(size)
        cut = edns.truncate(answer((SHORT,) * 60, (opt(option, 4096),)), END, 512)
        assert len(cut) <= 512
        fits = END + 11 + len(option) <= 512
        assert cut[END:] == opt(option if fits else b"", 4096)


def test_truncate_copes_with_records_that_do_not_add_up() -> None:
    """Nobody has walked the records of an answer without additional ones before it is cut."""
    broken = answer((b"\xc0\x0c\0\1\0\1\0\0\0\x3c\xff\xff" + bytes(600),))
    assert edns.undress(broken, END, False) == (broken, None)
    cut = edns.truncate(broken, END, 512)
    assert cut == b"\x12\x34\x83\x80\0\1\0\0\0\0\0\0" + QUESTION


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_hostile_answers_are_malformed_at_worst(tail: bytes, records: int, additional: int, keep: bool) -> None:
    message = answer((b"",) * records, (b"",) * additional) + tail
    try:
        out, _ = edns.undress(message, END, keep)
    except wire.Malformed:
        return
    assert len(out) <= len(message)
    assert out[:10] + out[12:END] == message[:10] + message[12:END]
