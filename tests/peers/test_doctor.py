"""``--doctor`` against real servers: what it says of them is what they are known to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import authority
from tests.peers import dnscrypt, programs, relay, scripted_dnscrypt, sdns

pytestmark = pytest.mark.peers

# The root, so that nothing is asked of the network: what is not here does not exist.
ROOT = """
server:
local-zone: "." static
local-data: ". SOA a.root-servers.net. nstld.example. 1 1800 900 604800 86400"
local-data: ". NS a.root-servers.net."
"""


def doctor(certs: authority.Authority, *options: str) -> tuple[int, str]:
    """Return the exit status and the report, every row on one line."""
    listen = ("--listen", f"127.0.0.1:{programs.free_port()}")
    done = programs.run_forwarder("--doctor", *listen, "--ca-file", certs.ca_file, *options)
    assert done.stderr == ""
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    return done.returncode, " ".join(done.stdout.split())


def test_unbound_is_usable_and_its_pins_work(certs: authority.Authority, tmp_path: Path) -> None:
    program = programs.unbound(certs, tmp_path)
    with (tmp_path / "unbound.conf").open("a") as file:
        file.write(ROOT)
    with program:
        status, said = doctor(certs, *programs.upstream(program.port))
        assert status == 0, said
        for part in (
            "TLS TLSv1.3", "authenticated as dot.test.example", "NOERROR to the query for the root's NS",
            "padding yes", "==> usable 1 of 1 upstreams usable; listening addresses free",
        ):  # fmt: skip
            assert part in said
        assert re.search(r"keepalive \d+ s idle", said)
        assert re.search(r"pipelining (in|out of) order: 8 queries", said)
        assert re.search(r"resumption (yes|no): ", said)
        leaf, spare = re.findall(r"--pin (sha256/\S{44})", said)
        status, said = doctor(certs, *programs.upstream(program.port), "--pin", leaf, "--pin", spare)
        assert status == 0
        assert said.count("(you have it)") == 2


@pytest.mark.parametrize("name", ["dnsdist", "named"])
def test_servers_that_refuse_the_root_are_not_usable_and_say_why(
    name: str, certs: authority.Authority, tmp_path: Path
) -> None:
    with programs.SERVERS[name](certs, tmp_path) as program:
        status, said = doctor(certs, *programs.upstream(program.port))
    assert status == 1
    assert "authenticated as dot.test.example" in said
    assert "answer REFUSED" in said
    assert "NOT usable: it answers REFUSED it does not serve you, or not the root zone" in said


def test_a_wrong_name_is_shown_with_the_right_one(certs: authority.Authority, tmp_path: Path) -> None:
    with programs.unbound(certs, tmp_path) as program:
        status, said = doctor(certs, *programs.upstream(program.port, name="wrong.example"))
    assert status == 1
    assert "names dot.test.example, 127.0.0.1, ::1" in said
    assert said.count("NOT TRUSTED") >= 2
    assert f"--upstream tls://127.0.0.1:{program.port}#dot.test.example" in said
    assert "answer" not in said


def test_a_bare_checkout_says_which_package_has_the_pins(certs: authority.Authority, tmp_path: Path) -> None:
    with programs.unbound(certs, tmp_path) as program:
        options = ("--doctor", "--listen", f"127.0.0.1:{programs.free_port()}", "--ca-file", certs.ca_file)
        bare = ("-S", "-E", "-s")
        done = programs.run_forwarder(
            *options, *programs.upstream(program.port), python=(sys.executable, *bare)
        )  # fmt: skip
    assert "pip install cryptography" in done.stdout
    assert "commonName=dot.test.example" in done.stdout
    assert "sha256/" not in done.stdout
    assert done.stderr == ""


def examine(stamp: str) -> tuple[int, str]:
    """Return the exit status and the report, every row on one line."""
    done = programs.run_forwarder("--doctor", "--listen", f"127.0.0.1:{programs.free_port()}", "--upstream", stamp)
    assert done.stderr == ""
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("in_flight", "connections"), [(0, "persistent, several queries at once: 8 answered in order"),
                                   (100, "persistent, several queries at once: 8 answered")],
)  # fmt: skip
def test_dnsdist_speaks_dnscrypt_and_gives_no_certificate_over_tcp(
    in_flight: int, connections: str, tmp_path: Path
) -> None:
    with dnscrypt.DnsCrypt(tmp_path, in_flight=in_flight) as server:
        status, said = examine(server.stamp)
    assert status == 0, said
    for part in (
        f"provider {server.provider} key {server.provider_key.hex()}", "UDP a certificate in",
        "NOERROR to the query for the root's NS, in", "padding queries of at least 448 bytes",
        "certificate 1 es_version 1 serial 1 cipher X25519-XSalsa20Poly1305 valid",
        "certificate 2 es_version 2 serial 2 cipher X25519-XChaCha20Poly1305 valid", "used no: there is a better one",
        "used yes clock this machine's agrees with the certificates", "no certificate that way NOERROR",
        f"connections {connections}", "==> usable 1 of 1 upstreams usable",
    ):  # fmt: skip
        assert part in said


@pytest.mark.slow
def test_through_a_relay_the_server_never_sees_us(tmp_path: Path, dnscrypt_relay: relay.Relay) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host="127.0.1.3") as server:
        stamp = f"{dnscrypt_relay.stamp}/{server.stamp.removeprefix('sdns://')}"
        status, said = examine(stamp)
        assert status == 0, said
        server.asked.assert_only_from("127.0.0.2")
        assert f"relay everything goes to 127.0.0.1:{dnscrypt_relay.port}, nothing to 127.0.1.3 itself provider" in said
        assert "connections one query a connection, then the server closes" in said
        assert "TCP connected in" in said
        dnscrypt_relay.silent = True
        status, said = examine(stamp)
        assert status == 1
        assert "name another relay. The server itself was not asked" in said
        server.asked.assert_only_from("127.0.0.2")
    with dnscrypt.DnsCrypt(tmp_path, host="127.0.0.3") as dnsdist, relay.Relay() as way:
        status, said = examine(f"{way.stamp}/{dnsdist.stamp.removeprefix('sdns://')}")
        assert status == 0, said
        assert "are in one network, 127.0.0.0/24" in said
        assert dnsdist.clients() == {"127.0.0.2"}


@pytest.mark.slow
def test_a_stamp_with_the_wrong_key_or_name_is_found_out(tmp_path: Path) -> None:
    with dnscrypt.DnsCrypt(tmp_path) as server:
        status, said = examine(sdns.dnscrypt(server.address, bytes(range(32)), server.provider))
        assert status == 1
        assert "used no: not signed by the provider's key" in said
        assert "NOT usable: no usable certificate: a certificate is not signed by the provider's key" in said
        assert server.clients() == set()
        status, said = examine(sdns.dnscrypt(server.address, server.provider_key, "2.dnscrypt-cert.other.example"))
        assert status == 1
        assert "A server may also say nothing to a provider's name that is not its own" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manners", "connections"),
    [("one-shot", "one query a connection, then the server closes"), ("serial", "8 answered in order"),
     ("together", "8 answered"), ("repeats", "one query at a time: it repeats")],
)  # fmt: skip
def test_where_udp_is_blocked_tcp_is_described(manners: str, connections: str) -> None:
    with scripted_dnscrypt.DnsCrypt(2, manners=manners) as server:
        server.silent_udp = True
        status, said = examine(server.stamp)
    assert status == 0, said
    assert "UDP FAILED: no certificate: no reply within 5 s" in said
    assert connections in said
    assert f"usable over TCP alone: UDP to port {server.port} is blocked or dead; write ?tcp after the stamp" in said


def test_expired_certificates_make_the_clock_suspect() -> None:
    with scripted_dnscrypt.DnsCrypt(2, lifetime=-1000) as server:
        status, said = examine(server.stamp)
        assert server.queries == []
    assert status == 1
    assert "EXPIRED" in said
    assert "set the clock if it is wrong" in said
