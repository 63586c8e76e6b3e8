"""Finding the addresses of a host name: through encrypted resolvers, or the system's.

Builds the two queries (A and AAAA) and reads their answers. It is given something
that asks; it needs dnslib to understand the answers, and only when it is used.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from _udp2tls import system, upstream
from _udp2tls.config import Config, ConfigError


def through(
    ask: Callable[[bytes], bytes], name: str, whom: str = "the bootstrap resolver"
) -> tuple[list[str], str]:
    """Return the addresses of ``name``, or ([], why there are none). ``ask`` sends one query, to ``whom``."""
    from dnslib import QTYPE, RCODE, DNSError, DNSRecord

    hosts: list[str] = []
    reason = "the name has no address"
    for kind in ("A", "AAAA"):
        query = DNSRecord.question(name, kind)
        query.header.id = secrets.randbits(16)
        try:
            answer = DNSRecord.parse(ask(query.pack()))
        except DNSError as error:
            reason = f"{whom} cannot be understood: {error}"
            continue
        if answer.header.rcode:
            reason = f"{whom} says {RCODE.get(answer.header.rcode)}"
        hosts += [str(record.rdata) for record in answer.rr if QTYPE.get(record.rtype) == kind]
    return hosts, "" if hosts else reason


def addresses(forwarder_type: Any, config: Config, host: str) -> tuple[list[str], str]:
    """Return the addresses of an upstream's host name, or why there are none. Blocks.

    Asks the bootstrap resolvers over TLS if there are any, else the system's resolver.
    """
    if config.bootstrap:
        try:
            forwarder = forwarder_type(config.for_bootstrap(), upstreams=upstream.build_bootstrap(config))
        except ConfigError as error:
            return [], str(error)
        try:
            return through(forwarder.ask, host)
        finally:
            forwarder.close()
    try:
        return system.addresses_of(host), ""
    except OSError as error:
        return [], f"the system's resolver says: {error.strerror or error}"
