"""No query leaves for a server that is not who it should be, and the client and the log say why."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests import authority
from tests.peers import asking, programs, scripted
from tests.peers.conftest import Start

pytestmark = pytest.mark.peers

TLS_1_1, TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# Gives what the server serves with, options for the forwarder, and a pattern for why it is refused.
Case = Callable[[authority.Authority], tuple[ssl.SSLContext, list[str], str]]


def pin_of(certificate: str) -> str:
    """Return the pin of a PEM file's public key, worked out apart from the product."""
    key = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return "sha256/" + base64.b64encode(digest).decode()


def expired(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    return scripted.context_for(certs.expired_cert, certs.expired_key), [], "certificate has expired"


def wrong_name(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    context = scripted.context_for(certs.wrong_name_cert, certs.wrong_name_key)
    return context, [], "Hostname mismatch.*dot.test.example"


def untrusted(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    return scripted.context_for(certs.other_cert, certs.other_key), [], "unable to get local issuer certificate"


def self_signed(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    return scripted.context_for(certs.self_signed_cert, certs.self_signed_key), [], "self-signed certificate"


def wrong_pin(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    found = f"no pin matches; the server's chain has {re.escape(pin_of(certs.server_cert))}"
    return scripted.good_context(certs), ["--pin", pin_of(certs.other_cert)], found


def right_pin_of_an_untrusted_certificate(certs: authority.Authority) -> tuple[ssl.SSLContext, list[str], str]:
    context = scripted.context_for(certs.self_signed_cert, certs.self_signed_key)
    return context, ["--pin", pin_of(certs.self_signed_cert)], "self-signed certificate"


CASES: list[Case] = [expired, wrong_name, untrusted, self_signed, wrong_pin, right_pin_of_an_untrusted_certificate]
BOTH = [TLS_1_2, TLS_1_3]


@dataclass(frozen=True)
class Refusal:
    """What clients, log and server saw of a server that was not trusted."""

    reason: str
    port: int
    answers: list[bytes]
    dig: str
    log: str
    accepted: int
    queries: list[bytes]


@pytest.fixture(scope="module")
def refusals(
    certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[Case, ssl.TLSVersion], Refusal]:
    """Ask every server there is to distrust, each through its own forwarder; all at once, for each takes its time."""

    def ask(bridge: programs.Program, server: scripted.Server, reason: str) -> Refusal:
        answers = [
            asking.ask_udp(bridge.port, asking.make_query(asking.numbered(serial), opt=asking.opt_record()))
            for serial in range(3)
        ]
        dig = programs.dig(bridge.port, "+tcp", "www.test.example")
        return Refusal(reason, server.port, answers, dig, bridge.log, server.accepted, server.queries)

    asked = {}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(CASES) * len(BOTH)))
        for key in itertools.product(CASES, BOTH):
            context, options, reason = key[0](certs)
            context.maximum_version = key[1]
            server = stack.enter_context(scripted.Server(scripted.serve, context))
            bridge = stack.enter_context(
                programs.forwarder(
                    tmp_path_factory.mktemp("udp2tls"), "--ca-file", certs.ca_file,
                    *programs.upstream(server.port), "--timeout", "0.7", *options,
                )
            )  # fmt: skip
            asked[key] = pool.submit(ask, bridge, server, reason)
        return {key: future.result() for key, future in asked.items()}


@pytest.mark.parametrize("newest", BOTH)
@pytest.mark.parametrize("case", CASES)
def test_a_server_that_cannot_prove_its_name_sees_no_query(
    case: Case, newest: ssl.TLSVersion, refusals: dict[tuple[Case, ssl.TLSVersion], Refusal]
) -> None:
    saw = refusals[case, newest]
    for answer in saw.answers:
        assert asking.rcode_of(answer) == asking.SERVFAIL
        assert re.search(f"certificate refused: .*{saw.reason}"[:80], asking.extended_error(answer))
    assert "status: SERVFAIL" in saw.dig
    assert re.search(r"; EDE: .*certificate refused", saw.dig)
    # Out of all these attempts one line about the connection, and one about the clients.
    assert saw.accepted >= 3
    told = [line for line in saw.log.splitlines() if "certificate refused" in line]
    about_the_upstream = [line for line in told if "cannot use" in line]
    assert len(about_the_upstream) == 1
    assert re.search(rf"WARNING cannot use tls://127\.0\.0\.1:{saw.port}#dot.*{saw.reason}", about_the_upstream[0])
    assert len(told) == 2
    assert saw.queries == []


def test_other_addresses_of_the_name_do_not_make_up_for_its_certificate(
    certs: authority.Authority, start: Start
) -> None:
    """The name to check is the one after '#', whatever address it was reached at."""
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port, name="another.test.example"), "--timeout", "0.5")
        answer = asking.ask_udp(bridge.port, asking.make_query("n1.test.example", opt=asking.opt_record()))
        assert "Hostname mismatch" in asking.extended_error(answer)
    assert server.queries == []


@pytest.mark.parametrize("newest", BOTH)
def test_the_right_pin_is_accepted_on_new_and_resumed_connections(
    newest: ssl.TLSVersion, certs: authority.Authority, start: Start
) -> None:
    context = scripted.context_for(certs.server_cert, certs.server_key, newest=newest)
    with scripted.Server(scripted.serve_one, context) as server:
        pins = ["--pin", pin_of(certs.other_cert), "--pin", pin_of(certs.server_cert)]
        bridge = start(*programs.upstream(server.port), *pins)
        for serial in range(4):
            message = asking.make_query(asking.numbered(serial))
            assert asking.is_right(message, asking.ask_udp(bridge.port, message))
        assert server.resumed >= 2
        assert "resumed" in bridge.log


def test_the_authoritys_pin_is_accepted(certs: authority.Authority, start: Start) -> None:
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port), "--pin", pin_of(certs.ca_file))
        message = asking.make_query("n5.test.example")
        assert asking.is_right(message, asking.ask_udp(bridge.port, message))


@pytest.mark.parametrize("newest", BOTH)
def test_a_server_that_wants_a_client_certificate_is_shown_one(
    newest: ssl.TLSVersion, certs: authority.Authority, start: Start
) -> None:
    context = scripted.context_for(certs.server_cert, certs.server_key, newest=newest, client_ca=certs.ca_file)
    with scripted.Server(scripted.serve, context) as server:
        identity = ["--client-cert", certs.client_cert, "--client-key", certs.client_key]
        bridge = start(*programs.upstream(server.port), *identity)
        message = asking.make_query("n6.test.example")
        assert asking.is_right(message, asking.ask_udp(bridge.port, message))
        assert server.refused == []


@pytest.fixture(scope="module", params=[(TLS_1_2, "handshake failure"), (TLS_1_3, "certificate required")])
def without_identity(
    request: pytest.FixtureRequest, certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[str], str]:
    """Ask a server that wants a client certificate without having one.

    Return what the server says, and what clients and the log are told.
    """
    newest, reason = request.param
    context = scripted.context_for(certs.server_cert, certs.server_key, newest=newest, client_ca=certs.ca_file)
    reasons = []
    with (
        scripted.Server(scripted.serve, context) as server,
        programs.forwarder(
            tmp_path_factory.mktemp("udp2tls"), "--ca-file", certs.ca_file, *programs.upstream(server.port),
            "--timeout", "0.5",
        ) as bridge,
    ):  # fmt: skip
        for serial in range(6):
            answer = asking.ask_udp(bridge.port, asking.make_query(asking.numbered(serial), opt=asking.opt_record()))
            assert asking.rcode_of(answer) == asking.SERVFAIL
            reasons.append(asking.extended_error(answer))
        assert server.accepted >= 3
    assert server.queries == []
    return reason, reasons, bridge.log


def test_clients_are_told_that_the_server_wants_a_certificate(without_identity: tuple[str, list[str], str]) -> None:
    reason, reasons, _ = without_identity
    assert [said for said in reasons if reason not in said] == []


def test_the_log_says_once_that_the_server_wants_a_certificate(without_identity: tuple[str, list[str], str]) -> None:
    log = without_identity[2]
    told = [line for line in log.splitlines() if "WARNING" in line and "SERVFAIL" not in line]
    assert len(told) == 1
    assert "alert" in told[0]


def test_a_server_with_tls_1_2_only_is_good_enough(certs: authority.Authority, start: Start) -> None:
    context = scripted.context_for(certs.server_cert, certs.server_key, newest=TLS_1_2)
    with scripted.Server(scripted.serve, context) as server:
        bridge = start(*programs.upstream(server.port))
        message = asking.make_query("n8.test.example")
        assert asking.is_right(message, asking.ask_udp(bridge.port, message))
        assert "TLSv1.2" in bridge.log


def test_a_server_with_tls_1_1_only_is_refused(certs: authority.Authority, start: Start) -> None:
    context = scripted.context_for(certs.server_cert, certs.server_key, newest=TLS_1_1, oldest=TLS_1_1)
    with scripted.Server(scripted.serve, context) as server:
        bridge = start(*programs.upstream(server.port), "--timeout", "0.5")
        answer = asking.ask_udp(bridge.port, asking.make_query("n8.test.example", opt=asking.opt_record()))
        assert asking.rcode_of(answer) == asking.SERVFAIL
        assert "protocol version" in asking.extended_error(answer)
        time.sleep(0.1)
        assert all("connected to" not in line for line in bridge.log.splitlines())
    assert server.queries == []
    assert server.refused
