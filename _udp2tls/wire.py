"""DNS messages as bytes (RFC 1035 section 4): reading just enough, writing just enough.

A forwarder moves messages; it does not decode them. This file knows the header,
where the question ends, how to step over records, and how to build the few
answers a forwarder gives itself. Every byte that comes in is hostile: the only
error that leaves is ``Malformed``, and nothing is read past the end.

Sizes and offsets are in bytes. Messages are ``bytes`` and are never changed in place.
"""

from __future__ import annotations

import struct

HEADER = 12
MIN_UDP = 512  # RFC 1035 section 4.2.1: what every UDP client takes

# Response codes (RFC 1035 section 4.1.1)
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

TYPE_SIG, TYPE_OPT, TYPE_TSIG, TYPE_IXFR, TYPE_AXFR = 24, 41, 250, 251, 252

# The counts of a query with one question and nothing else.
_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"
# More additional records than any honest query has (an OPT, a TSIG, keys); bounds the walk.
_MAX_ADDITIONAL = 8
# RFC 1035 section 3.1: a name is at most 255 bytes, so its root label starts here at the latest.
_LAST_ROOT = HEADER + 254

# An OPT record begins with the root name and its type (RFC 6891 section 6.1.2).
_OPT_HEAD = b"\0\0\x29"

_three_numbers = struct.Struct(">HHH").unpack_from

# How far a label of this length reaches. Lengths over 63 are pointers or reserved
# (RFC 1035 section 4.1.4) and have no place in a question.
_STEP = tuple(range(1, 65))

SEALED = -1


class Malformed(Exception):
    """A message that breaks the format; ``rcode`` is what its sender should be told."""

    def __init__(self, reason: str, rcode: int = FORMERR) -> None:
        super().__init__(reason)
        self.rcode = rcode


def question_end(message: bytes) -> int:
    """Return the offset behind the first question.

    The labels are walked: a label may hold a zero byte, so searching for one
    would stop too early.
    """
    at = HEADER
    try:
        while size := message[at]:
            at += _STEP[size]
    except IndexError:
        raise Malformed("the question's name runs past the end, is compressed, or has a label over 63 bytes") from None
    if at > _LAST_ROOT:
        raise Malformed("the question's name is longer than 255 bytes")
    if at + 5 > len(message):
        raise Malformed("the question is cut off")
    return at + 5


def skip_record(message: bytes, at: int) -> tuple[int, int]:
    """Step over the resource record at ``at``; return (its type, the offset behind it)."""
    try:
        size = message[at]
        while size:
            if size >= 0xC0:  # a pointer ends the name (RFC 1035 section 4.1.4)
                at += 1
                break
            if size > 63:
                raise Malformed("a record's name has a label over 63 bytes")
            at += size + 1
            size = message[at]
        end = at + 11 + (message[at + 9] << 8 | message[at + 10])
        rtype = message[at + 1] << 8 | message[at + 2]
    except IndexError:
        raise Malformed("a record runs past the end") from None
    if end > len(message):
        raise Malformed("a record's data runs past the end")
    return rtype, end


def parse_query(message: bytes) -> tuple[int, int]:
    """Check a query and return (offset behind the question, offset of the OPT record).

    The second is 0 when the query has no OPT record, and ``SEALED`` when the
    message must not be edited on its way: it is signed (TSIG, SIG(0)), or
    something stands behind the OPT record.

    The caller has seen to it that the header is complete and is a query's (QR 0).
    Raises Malformed with FORMERR, or with NOTIMP for other opcodes (RFC 1035
    section 4.1.1) and zone transfers, which are more than one answer.
    """
    if message[2] > 7:
        raise Malformed(f"opcode {message[2] >> 3 & 15} is not QUERY", NOTIMP)
    if message[4:12] == _ONE_QUESTION:
        end, opt = question_end(message), 0
        if end != len(message):
            raise Malformed("bytes behind the end of the message")
    else:
        end, opt = _parse_with_records(message)
    if message[end - 3] > TYPE_TSIG and message[end - 4] == 0 and message[end - 3] <= TYPE_AXFR:
        raise Malformed("zone transfers are not forwarded", NOTIMP)
    return end, opt


def _parse_with_records(message: bytes) -> tuple[int, int]:
    if message[4:6] != b"\0\1":
        raise Malformed("not exactly one question")  # RFC 9619
    if message[6:10] != b"\0\0\0\0":
        raise Malformed("a query with answer or authority records")
    additional = message[10] << 8 | message[11]
    if additional > _MAX_ADDITIONAL:
        raise Malformed("too many additional records")
    end = at = question_end(message)
    opt, sealed = 0, False
    for _ in range(additional):
        start = at
        rtype, at = skip_record(message, start)
        if rtype == TYPE_OPT:
            if opt or message[start]:
                raise Malformed("a second OPT record, or one with a name")  # RFC 6891 section 6.1.1
            opt = start
            check_options(message, start + 11, at)
        else:
            sealed = True
    if at != len(message):
        raise Malformed("bytes behind the end of the message")
    return end, SEALED if sealed else opt


def check_options(message: bytes, at: int, stop: int) -> None:
    """Raise Malformed unless the EDNS options in ``message[at:stop]`` add up (RFC 6891 section 6.1.2)."""
    while at + 4 <= stop:
        at += 4 + (message[at + 2] << 8 | message[at + 3])
    if at != stop:
        raise Malformed("an EDNS option runs past its record")


def find_opt(message: bytes, end: int) -> tuple[int, int]:
    """Return where the OPT record of an answer whose question ends at ``end`` begins and ends, or (0, 0).

    Walks the answer's records; raises Malformed when they do not add up.
    """
    at = end
    try:
        records, authority, additional = _three_numbers(message, 6)
        left = records + authority
        while left:
            left -= 1
            if message[at] >= 0xC0:  # nearly every record's name is a pointer: two bytes, no call
                at += 12 + (message[at + 10] << 8 | message[at + 11])
            else:
                at = skip_record(message, at)[1]
        while additional:
            additional -= 1
            if message.startswith(_OPT_HEAD, at):
                stop = at + 11 + (message[at + 9] << 8 | message[at + 10])
                if stop <= len(message):
                    return at, stop
            at = skip_record(message, at)[1]
    except (IndexError, struct.error):
        raise Malformed("a record runs past the end") from None
    if at > len(message):
        raise Malformed("a record's data runs past the end")
    return 0, 0


def respond(query: bytes, end: int, rcode: int, *, tail: bytes = b"", truncated: bool = False) -> bytes:
    """Build an answer without records to ``query``, whose question ends at ``end``.

    ``end`` = 12 leaves the question out (for queries that have none we could
    read). ``tail`` is an OPT record to append, or nothing. ID, opcode, RD and CD
    are the query's; RA is set, for a forwarder offers recursion.
    """
    return b"".join((
        query[:2],
        bytes((0x80 | query[2] & 0x79 | (0x02 if truncated else 0), 0x80 | query[3] & 0x10 | rcode)),
        b"\0\1" if end > HEADER else b"\0\0",
        b"\0\0\0\0",
        b"\0\1" if tail else b"\0\0",
        query[HEADER:end],
        tail,
    ))  # fmt: skip


def same_question(one: bytes, other: bytes, end: int) -> bool:
    """True when both messages ask the same in the bytes up to ``end``; letter case is no difference.

    Only the name is folded. Its length bytes are below 64 and so below "A"; type
    and class are not letters: folding them would turn TYPE65 into TYPE97.
    """
    name = end - 4
    return one[HEADER:name].lower() == other[HEADER:name].lower() and one[name:end] == other[name:end]
