"""The demo's resolver: answers worth showing, from a certificate that verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
from dnslib import EDNS0, DNSRecord

from _udp2tls import demo
from _udp2tls.framing import Framing
from _udp2tls.tls import Session, Tls, client_context


def ask(name: str, rtype: str, edns: bool = False) -> DNSRecord:
    query = DNSRecord.question(name, rtype)
    if edns:
        query.add_ar(EDNS0(udp_len=1232))
    return DNSRecord.parse(demo.answer(bytes(query.pack())))


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize(
    ("rtype", "data"),
    [("A", ["192.0.2.1"]), ("AAAA", ["2001:db8::1"]), ("TXT", ['"udp2tls demo answers"']), ("MX", [])],
)
def test_every_name_is_answered(rtype: str, data: list[str], edns: bool) -> None:
    answer = ask("WWW.example", rtype, edns)
    assert [str(record.rdata) for record in answer.rr] == data
    assert str(answer.q.qname) == "WWW.example."
    assert len(answer.ar) == edns


def test_large_names_have_large_texts() -> None:
    assert len(ask("Large.example", "TXT").pack()) > 4000
    assert len(ask("larger.example", "TXT").pack()) < 100


def test_what_is_no_query_gets_formerr() -> None:
    assert demo.answer(b"\x12\x34\1\0" + bytes(8))[3] & 15 == 1


def test_its_certificate_verifies_by_name_and_by_address(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    for name in (demo.NAME, "127.0.0.1"):
        client = Tls.client(Framing(), Session(client_context(files.ca_file), name))
        server = demo.codec_factory(files)()
        while not client.room:
            server.receive(client.outgoing(), 0.0)
            client.receive(server.outgoing(), 0.0)
