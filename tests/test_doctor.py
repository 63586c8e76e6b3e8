"""What ``--doctor`` says of good and bad upstreams, and its exit status."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import replace

import pytest

import udp2tls
from _udp2tls import RELEASED, doctor, edns, wire
from _udp2tls.config import BindError, Config, Endpoint, parse_pin, parse_upstream
from tests import authority, dnscrypt_world, resolver
from tests.peers import scripted
from tests.resolver import Connection, World, answer

LISTEN = (Endpoint("127.0.0.1", 53), Endpoint("::1", 53))


def config(certs: authority.Authority, *upstreams: str, ca_file: str = "", pins: tuple[str, ...] = ()) -> Config:
    specs = upstreams or (f"tls://192.0.2.53#{authority.NAME}",)
    return Config(
        tuple(map(parse_upstream, specs)), LISTEN, ca_file=ca_file or certs.ca_file,
        pins=frozenset(map(parse_pin, pins)),
    )  # fmt: skip


def good(certs: authority.Authority, script: resolver.Script = resolver.serve) -> World:
    return World(scripted.good_context(certs), script)


def run(world: World, settings: Config) -> int:
    status = doctor.run(settings, world.tools)
    for line in "\n".join(world.said).splitlines():
        assert len(line) <= 100
        assert line == line.rstrip()
    return status


def verdict(world: World) -> str:
    """Return the last word on the last upstream."""
    text = "\n".join(world.said)
    return " ".join(text[text.rindex("\n  ==> ") : text.rindex("\n\n")].split())


def test_a_good_upstream_is_usable_and_everything_is_said(certs: authority.Authority) -> None:
    def serve(connection: Connection, queries: list[bytes]) -> None:
        opt = resolver.options((edns.PADDING, bytes(99)), (edns.KEEPALIVE, b"\x00\x65"))
        connection.send([answer(query, opt=opt) for query in reversed(queries)])

    world = good(certs, serve)
    assert run(world, config(certs)) == 0
    text = world.text
    for said in (
        "plausible", "listen 127.0.0.1:53 is free, UDP and TCP", "listen [::1]:53 is free",
        "upstream 1: tls://192.0.2.53#dot.test.example 192.0.2.53:853 connect TCP in 30 ms",
        "TLS TLSv1.3, TLS_AES_256_GCM_SHA384, ALPN none, handshake in 20 ms",
        "identity authenticated as dot.test.example, by an authority you trust certificate 1 leaf: the server's own",
        "subject CN=dot.test.example issuer CN=udp2tls test CA valid 20",
        "names dot.test.example, 127.0.0.1, ::1 pin --pin sha256/", "certificate 2 signs certificate 1",
        "certificate 2's as a spare", "answer NOERROR to the query for the root's NS, in 20 ms",
        "padding yes, this answer to 137 bytes", "keepalive 10.1 s idle", "pipelining out of order", "resumption yes",
        "==> usable 1 of 1 upstreams usable; listening addresses free",
    ):  # fmt: skip
        assert said in text
    assert "NOT" not in text


def test_the_pins_it_prints_are_taken_and_recognized(certs: authority.Authority) -> None:
    world = good(certs)
    run(world, config(certs))
    leaf, spare = re.findall(r"--pin (sha256/\S{44})", world.text)
    world = good(certs)
    assert run(world, config(certs, pins=(leaf, "sha256/" + "A" * 43 + "="))) == 0
    assert "one of your 2 pins matches" in world.text
    assert f"--pin {leaf} (you have it)" in world.text
    assert f"--pin {spare} (you have it)" not in world.text


def test_a_wrong_pin_is_not_authenticated_and_the_pins_are_shown_untrusted(certs: authority.Authority) -> None:
    world = good(certs)
    assert run(world, config(certs, pins=("sha256/" + "A" * 43 + "=",))) == 1
    assert world.queries == []
    assert "identity NOT authenticated: certificate refused: no pin matches" in world.text
    assert "(not trusted)" in world.text
    assert "--pin sha256/" not in world.text
    assert "not the server you pinned" in verdict(world)


@pytest.mark.parametrize(
    ("kind", "why", "shown", "remedy"),
    [
        ("expired", "certificate has expired", "EXPIRED", "set it"),
        ("wrong_name", "Hostname mismatch", "names elsewhere.example, 192.0.2.99",
         "--upstream tls://192.0.2.53#elsewhere.example"),
        ("self_signed", "self-signed certificate", "signed by itself, NOT TRUSTED", "--ca-file FILE"),
        ("other", "unable to get local issuer", "issuer CN=udp2tls other CA", "--ca-file FILE"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_refused_is_shown_and_no_query_is_sent(
    kind: str, why: str, shown: str, remedy: str, certs: authority.Authority
) -> None:
    world = World(scripted.context_for(getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key")))
    assert run(world, config(certs)) == 1
    assert world.queries == []
    assert f"identity NOT authenticated: certificate refused: {why}" in world.text
    assert "presented NOT TRUSTED; seen in a second handshake without checks, closed without a query" in world.text
    assert shown in world.text
    assert "==> NOT usable: not authenticated: " in verdict(world)
    assert remedy in verdict(world)
    assert "answer" not in world.text


def test_a_second_look_that_fails_is_said(certs: authority.Authority) -> None:
    world = World(scripted.context_for(certs.expired_cert, certs.expired_key))
    connect = world.connect

    def once(address: Endpoint, timeout: float) -> Connection:
        connection = connect(address, timeout)
        world.refuse = {address}
        return connection

    world.tools = replace(world.tools, connect=once)
    assert run(world, config(certs)) == 1
    assert "presented unknown: a second look failed, connection refused" in world.text


def test_a_refused_connection_and_a_silent_one(certs: authority.Authority) -> None:
    world = good(certs)
    world.refuse = {Endpoint("192.0.2.53", 853)}
    assert run(world, config(certs)) == 1
    assert verdict(world).startswith("==> NOT usable: cannot connect: connection refused nothing listens there")

    world = World(None)
    assert run(world, config(certs)) == 1
    assert "TLS FAILED: no reply within 5 s" in world.text
    assert "openssl s_client -connect 192.0.2.53:853 -servername dot.test.example" in verdict(world)


@pytest.mark.parametrize(
    ("rcode", "usable", "said"),
    [
        (wire.NOERROR, True, "usable"), (wire.NXDOMAIN, True, "usable"), (wire.REFUSED, False, "does not serve you"),
        (wire.SERVFAIL, False, "cannot resolve at the moment"), (wire.FORMERR, False, "is it a resolver?"),
        (9, False, "it answers RCODE 9"),
    ],
)  # fmt: skip
def test_an_upstream_that_refuses_is_not_usable(
    rcode: int, usable: bool, said: str, certs: authority.Authority
) -> None:
    world = good(certs, lambda connection, queries: connection.send([answer(query, rcode) for query in queries]))
    assert run(world, config(certs)) == (0 if usable else 1)
    assert said in verdict(world)
    assert ("NOT usable" in verdict(world)) is not usable


def test_an_extended_error_is_shown_harmlessly(certs: authority.Authority) -> None:
    opt = resolver.options((edns.EXTENDED_ERROR, b"\0\x16no \x1b[2Jauthority"))
    world = good(certs, lambda connection, queries: connection.send([answer(q, 2, opt) for q in queries]))
    assert run(world, config(certs)) == 1
    assert "the server adds: extended error 22 no ?[2Jauthority" in world.text


def test_an_upstream_that_never_answers_or_answers_nonsense_is_not_usable(certs: authority.Authority) -> None:
    world = good(certs, lambda connection, queries: None)
    assert run(world, config(certs)) == 1
    assert "NOT usable: no answer: no reply within 5 s" in verdict(world)
    assert "choose another upstream" in verdict(world)

    broken = resolver.options((edns.PADDING, bytes(9)))[:-4]
    world = good(certs, lambda connection, queries: connection.send([answer(q, opt=broken) for q in queries]))
    assert run(world, config(certs)) == 1
    assert "its answers are malformed" in verdict(world)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "not said"), (b"", "not said"), (b"\0\0", "wants the connection closed"), (b"\x01\x2c", "30 s idle")],
)
def test_keepalive_in_words(value: bytes | None, said: str) -> None:
    assert said in doctor._keepalive(value)


def test_a_name_is_looked_up_and_one_good_address_is_enough(certs: authority.Authority) -> None:
    world = good(certs)
    world.hosts = ["2001:db8::1", "192.0.2.1", "192.0.2.1"], ""
    world.refuse = {Endpoint("2001:db8::1", 853)}
    assert run(world, config(certs, "tls://dot.test.example")) == 0
    assert "addresses 2001:db8::1, 192.0.2.1, 192.0.2.1, looked up in" in world.text
    assert "==> not usable here: cannot connect: connection refused nothing listens" in world.text
    assert verdict(world) == "==> usable at 1 of 2 addresses; see above for the others"

    world.refuse = {Endpoint("2001:db8::1", 853), Endpoint("192.0.2.1", 853)}
    assert run(world, config(certs, "tls://dot.test.example")) == 1
    assert "NOT usable at any of its 2 addresses. The first: cannot connect" in verdict(world)


def test_a_name_without_an_address_says_how_to_do_without(certs: authority.Authority) -> None:
    world = good(certs)
    assert run(world, config(certs, "tls://dot.test.example")) == 1
    assert world.connections == []
    assert "NOT usable: no address for dot.test.example: no such name" in verdict(world)
    assert "tls://ADDRESS#dot.test.example" in verdict(world)
    assert "--bootstrap" in verdict(world)


def test_a_look_up_that_hangs_is_left_behind(certs: authority.Authority) -> None:
    world = good(certs)
    gate = socket.socketpair()  # the look-up's thread waits at it until the test is over
    with gate[0], gate[1]:

        def hang(host: str) -> tuple[list[str], str]:
            gate[0].recv(1)
            return [], ""

        world.tools = replace(world.tools, look_up=hang, patience=0.01)
        assert run(world, config(certs, "tls://dot.test.example")) == 1
        gate[1].send(b"x")
    assert "no reply within 0.02 s" in verdict(world)


def test_every_upstream_counts(certs: authority.Authority) -> None:
    world = good(certs)
    world.refuse = {Endpoint("192.0.2.54", 853)}
    both = f"tls://192.0.2.53#{authority.NAME}", f"tls://192.0.2.54#{authority.NAME}"
    assert run(world, config(certs, *both)) == 1
    assert world.said[-1] == "\n1 of 2 upstreams usable; listening addresses free"


def test_dnscrypt_is_examined_beside_the_others(certs: authority.Authority) -> None:
    server = dnscrypt_world.World()
    world = good(certs)
    world.tools = replace(world.tools, datagrams=server.datagrams, wall=server.tools.wall)
    assert run(world, config(certs, server.stamp())) == 0
    assert "FAILED" in world.text, "there is TLS where DNSCrypt over TCP should be"
    assert verdict(world).startswith("==> usable over UDP alone")


def bind_fails(code: int, taken: Endpoint) -> object:
    def bind(endpoint: Endpoint) -> tuple[()]:
        if endpoint == taken:
            cause = OSError(code, "injected")
            raise BindError(endpoint, "UDP", cause) from cause
        return ()

    return bind


@pytest.mark.parametrize(
    ("code", "optional", "status", "said"),
    [
        (errno.EADDRINUSE, False, 1, "(UDP): injected another program holds the port"),
        (errno.EADDRINUSE, True, 1, "if it is a udp2tls already running"),
        (errno.EACCES, True, 1, "ports below 1024 need a privilege"),
        (errno.EADDRNOTAVAIL, False, 1, "this machine does not have the address"),
        (errno.EADDRNOTAVAIL, True, 0, "[::1]:53 is left out: this machine does not have the address"),
    ],
)
def test_listening_addresses_that_cannot_be_had(
    code: int, optional: bool, status: int, said: str, certs: authority.Authority
) -> None:
    world = good(certs)
    world.tools = replace(world.tools, bind=bind_fails(code, LISTEN[1]))  # type: ignore[arg-type]
    assert run(world, replace(config(certs), listen_optional=optional)) == status
    assert said in world.text
    assert ("NOT all free" in world.said[-1]) is bool(status)
    assert ("already running" in world.text) is (code == errno.EADDRINUSE)


def test_a_clock_before_the_release_is_wrong(certs: authority.Authority) -> None:
    world = good(certs)
    world.tools = replace(world.tools, wall=lambda: 0.0)
    run(world, config(certs))
    assert f"clock 1970-01-01 00:00:00 UTC, WRONG: this version was released on {RELEASED}" in world.text
    assert "set it" in world.text
    assert "NOT YET VALID by this machine's clock" in world.text


def test_the_whole_on_loopback(certs: authority.Authority, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        options = ["--doctor", "-l", "127.0.0.1:0", "--ca-file", certs.ca_file]
        assert udp2tls.main([*options, "-u", f"tls://localhost:{server.port}#{authority.NAME}"]) == 0
        assert len(server.queries) == 9
    captured = capsys.readouterr()
    assert "resumption    yes: " in captured.out
    assert "==>           usable" in captured.out
    assert captured.err == ""


def test_ports_are_released_again(certs: authority.Authority, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = ["--doctor", "-u", "tls://127.0.0.1:1", "-l", f"127.0.0.1:{port}"]
        assert udp2tls.main(refused) == 1
        assert f"cannot listen on 127.0.0.1:{port} (TCP)" in capsys.readouterr().out
    for _ in range(2):
        assert udp2tls.main(refused) == 1
        assert f"127.0.0.1:{port} is free" in capsys.readouterr().out


def test_bad_configuration_is_status_2_before_anything_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert udp2tls.main(["--doctor", "-u", "tls://127.0.0.1:1", "--ca-file", "missing.pem"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "missing.pem" in captured.err
