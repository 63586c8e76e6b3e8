"""Finding the addresses of a host name through encrypted resolvers.

Builds the two queries (A and AAAA) and reads their answers. It is given something
that asks; it needs dnslib to understand the answers, and only when it is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable


def through(ask: Callable[[bytes], bytes], name: str) -> tuple[list[str], str]:
    """Return the addresses of ``name``, or ([], why there are none). ``ask`` sends one query."""
    from dnslib import QTYPE, RCODE, DNSError, DNSRecord

    hosts: list[str] = []
    reason = "the name has no address"
    for kind in ("A", "AAAA"):
        query = DNSRecord.question(name, kind)
        query.header.id = secrets.randbits(16)
        try:
            answer = DNSRecord.parse(ask(query.pack()))
        except DNSError as error:
            reason = f"bootstrap: {error}"
            continue
        if answer.header.rcode:
            reason = f"the bootstrap resolver says {RCODE.get(answer.header.rcode)}"
        hosts += [str(record.rdata) for record in answer.rr if QTYPE.get(record.rtype) == kind]
    return hosts, "" if hosts else reason
