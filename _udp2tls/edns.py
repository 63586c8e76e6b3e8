"""The OPT record (RFC 6891), hop by hop.

Owns what this hop adds to a query and takes off its answer again: padding
(RFC 7830, RFC 8467), edns-tcp-keepalive (RFC 7828), and the OPT record itself
for clients that sent none. Everything else in a client's OPT record is between
it and the resolver and passes untouched. Also writes extended errors (RFC 8914).

What a client sent is never changed where that could alter the answer, and a
message never grows past the 65,535 bytes a frame can hold.
"""

from __future__ import annotations

from _udp2tls import wire
from _udp2tls.wire import find_opt

KEEPALIVE, PADDING, EXTENDED_ERROR = 11, 12, 15

# RFC 8467 section 4.1: queries are padded to the next multiple of 128.
BLOCK = 128

# The size we claim in an OPT record of our own (the DNS flag day 2020 figure). Nothing
# travels by UDP on that hop, so it has no effect there.
UDP_SIZE = 1232

# Extended error codes (RFC 8914 section 4)
OTHER, NO_REACHABLE_AUTHORITY, NETWORK_ERROR = 0, 22, 23

# A padded message is a multiple of 128, so this is the longest of 65,535 bytes at most.
_MAX_MESSAGE = 65535 // BLOCK * BLOCK
_FIXED = b"\0\x00\x29" + UDP_SIZE.to_bytes(2, "big") + b"\0\0\0\0"
_ASK_KEEPALIVE = b"\x00\x0b\x00\x00"


def _options(padding: int) -> bytes:
    return _ASK_KEEPALIVE + b"\x00\x0c" + padding.to_bytes(2, "big") + bytes(padding)


def _whole_record(padding: int) -> bytes:
    options = _options(padding)
    return _FIXED + len(options).to_bytes(2, "big") + options


# OPT record with both options by number of padding bytes, made once.
_RECORDS = tuple(_whole_record(n) for n in range(BLOCK))
_OVERHEAD = len(_RECORDS[0])
_OPTIONS_OVERHEAD = len(_options(0))


def dress(message: bytes, opt: int, id: bytes) -> bytes:
    """Return the query as it goes to the upstream: under ``id``, padded, asking for its idle limit.

    ``opt`` is what ``wire.parse_query`` said. A sealed message, and one so long
    that nothing may be added, gets its ID and no more.
    """
    if not opt:
        size = len(message) + _OVERHEAD
        if size <= _MAX_MESSAGE:
            return b"".join((id, message[2:11], b"\1", message[12:], _RECORDS[-size & 127]))
    elif opt != wire.SEALED:
        kept, _ = _without_hop_options(message, opt + 11, len(message))
        size = opt + 11 + len(kept) + _OPTIONS_OVERHEAD
        if size <= _MAX_MESSAGE:
            rdata = kept + _options(-size & 127)
            return b"".join((id, message[2 : opt + 9], len(rdata).to_bytes(2, "big"), rdata))
    return id + message[2:]


def undress(answer: bytes, end: int, keep: bool) -> tuple[bytes, int | None]:
    """Take this hop's part off an answer whose question ends at ``end``.

    ``keep`` says whether the client's query had an OPT record; without one the
    answer must not have one either (RFC 6891 section 7). Returns the answer and
    the upstream's keepalive timeout in units of 100 ms, or None.
    Raises wire.Malformed when the records do not add up.
    """
    if not answer[11] and not answer[10]:
        return answer, None
    at, stop = find_opt(answer, end)
    if not at:
        return answer, None
    options, keepalive = b"", None
    if stop > at + 11:
        options, keepalive = _without_hop_options(answer, at + 11, stop)
    if not keep:
        if answer[11] == 1 and stop == len(answer) and not answer[10]:
            return b"".join((answer[:10], b"\0\0", answer[12:at])), keepalive
        count = ((answer[10] << 8 | answer[11]) - 1).to_bytes(2, "big")
        return b"".join((answer[:10], count, answer[12:at], _moved(answer, stop, stop - at))), keepalive
    if len(options) != stop - at - 11:
        length = len(options).to_bytes(2, "big")
        behind = _moved(answer, stop, stop - at - 11 - len(options))
        answer = b"".join((answer[: at + 9], length, options, behind))
    return answer, keepalive


def _moved(answer: bytes, at: int, by: int) -> bytes:
    """Return the records from ``at`` on, for a place ``by`` bytes before it.

    The pointers of their names to one another move along. Data is left as it is:
    what stands behind an OPT record (addresses, signatures) has no names to compress.
    """
    records = bytearray(answer[at:])
    start = at
    while start < len(answer):
        stop = wire.skip_record(answer, start)[1]
        while 0 < answer[start] < 0xC0:
            start += answer[start] + 1
        target = (answer[start] & 0x3F) << 8 | answer[start + 1]
        if answer[start] and target >= at:
            records[start - at : start - at + 2] = (0xC000 | target - by).to_bytes(2, "big")
        start = stop
    return bytes(records)


def _without_hop_options(message: bytes, at: int, stop: int) -> tuple[bytes, int | None]:
    """Return the options in ``message[at:stop]`` but padding and keepalive, and the keepalive value."""
    kept = []
    keepalive = None
    while at < stop:
        if at + 4 > stop:
            raise wire.Malformed("an EDNS option is cut off")
        code = message[at] << 8 | message[at + 1]
        end = at + 4 + (message[at + 2] << 8 | message[at + 3])
        if end > stop:
            raise wire.Malformed("an EDNS option runs past its record")
        if code == KEEPALIVE:
            if end == at + 6:
                keepalive = message[at + 4] << 8 | message[at + 5]
        elif code != PADDING:
            kept.append(message[at:end])
        at = end
    return b"".join(kept), keepalive


def udp_size(query: bytes, opt: int, cap: int = UDP_SIZE) -> int:
    """Return how large a UDP answer to ``query`` may be: 512, or the client's EDNS size up to ``cap``."""
    if opt <= 0:
        return wire.MIN_UDP
    return max(wire.MIN_UDP, min(cap, query[opt + 3] << 8 | query[opt + 4]))


def error(query: bytes, end: int, opt: int, rcode: int, code: int, text: str = "") -> bytes:
    """Build an error answer, with an extended error where the client can read one.

    ``code`` is a RFC 8914 code; ``text`` goes with it, cut to 200 bytes so that
    the answer fits any client's UDP size.
    """
    tail = b""
    if opt > 0:
        dnssec_ok = query[opt + 7] & 0x80  # copied, says RFC 3225 section 3
        said = text.encode("utf-8", "replace")[:200].decode("utf-8", "ignore").encode()
        option = code.to_bytes(2, "big") + said
        tail = b"".join((
            _FIXED[:7], bytes((dnssec_ok, 0)), (len(option) + 4).to_bytes(2, "big"),
            EXTENDED_ERROR.to_bytes(2, "big"), len(option).to_bytes(2, "big"), option,
        ))  # fmt: skip
    return wire.respond(query, end, rcode, tail=tail)


def extended_error(answer: bytes, end: int) -> int | None:
    """Return the code of the first extended error (RFC 8914) in an answer whose question ends at ``end``."""
    try:
        at, stop = find_opt(answer, end)
    except wire.Malformed:
        return None
    at += 11
    while at + 6 <= stop:
        if answer[at] << 8 | answer[at + 1] == EXTENDED_ERROR:
            return answer[at + 4] << 8 | answer[at + 5]
        at += 4 + (answer[at + 2] << 8 | answer[at + 3])
    return None


def truncate(answer: bytes, end: int, limit: int) -> bytes:
    """Return ``answer`` cut to its question and OPT record, with TC set (RFC 2181 section 9).

    A client that sees TC must ask again over TCP and must not use what is left,
    so no records are left.
    """
    tail = b""
    try:
        at, stop = find_opt(answer, end)
    except wire.Malformed:  # nobody has walked its records yet, and none of them is kept
        at = stop = 0
    if at:
        tail = answer[at:stop]
        if end + len(tail) > limit:
            tail = answer[at : at + 9] + b"\0\0"
    return b"".join((
        answer[:2], bytes((answer[2] | 0x02,)), answer[3:6], b"\0\0\0\0",
        b"\0\1" if tail else b"\0\0", answer[12:end], tail,
    ))  # fmt: skip
