"""The program as it is started: options, environment, exit status, messages."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import authority
from tests.peers import asking, programs
from tests.peers.conftest import Start

pytestmark = pytest.mark.peers

UPSTREAM = ("--upstream", "tls://127.0.0.1#dot.test.example")


@pytest.fixture
def dnsdist(server_named: Callable[[str], programs.Program]) -> programs.Program:
    return server_named("dnsdist")


@pytest.mark.parametrize(
    ("options", "marked", "remedy"),
    [
        (("--listen", "127.0.0.1:99999"), "99999", ""),
        (("--listen", "localhost:53"), "localhost", r"write ADDR or ADDR:PORT.*127\.0\.0\.1:5353"),
        (("--listen", "[::1:53"), "[::1:53", r"write \[ADDR\]:PORT"),
        (("--upstream", "https://9.9.9.9"), "https", r"write tls://HOST\[:853\]\[#NAME\]"),
        (("--upstream", "tls://9.9.9.9:port"), "port", ""),
        (("--upstream", "tls://9.9.9.9#no name"), "no name", r"write tls://"),
        (("--pin", "sha256/AAAA"), "sha256/AAAA", r"write sha256/"),
        (("--allow", "192.168.0.1/16"), "192.168.0.1/16", r"write e\.g\. 192\.168\.0\.0/16"),
    ],
)
def test_a_wrong_value_is_shown_underlined_and_explained(options: tuple[str, ...], marked: str, remedy: str) -> None:
    done = programs.run_forwarder(*options)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"udp2tls: {options[0]}: ")
    shown, marks = lines[1], lines[2]
    assert options[1] in shown
    assert re.fullmatch(r" +~*\^", marks)
    assert shown[marks.index(marks.strip()) : len(marks)] == marked
    assert "Traceback" not in done.stderr
    if remedy:
        assert re.search(remedy, lines[3])
    else:
        assert "1 to 65535" in lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lisen", "127.0.0.1"), ["--lisen", "udp2tls --help"]),
        (("--timeout", "soon"), ["'soon'", "--timeout", "number of seconds"]),
        (("--timeout", "0"), ["0.1 and 60", "default is 4"]),
        (("--log-level", "loud"), ["'loud'", "debug, info, warning, error"]),
        (("--ca-file", "/nowhere/ca.pem"), ["/nowhere/ca.pem", "No such file", "readable PEM file"]),
        (("--client-cert", "/nowhere/me.pem"), ["/nowhere/me.pem", "No such file", "readable PEM file"]),
        (("--client-key", "/nowhere/me.key"), ["a key without its certificate", "--client-cert"]),
        (("--listen", "0.0.0.0:5353"), ["everyone", "--allow"]),
        (("/nowhere/udp2tls.toml",), ["/nowhere/udp2tls.toml", "No such file"]),
    ],
)
@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_bad_configuration_is_status_2_with_a_remedy(options: tuple[str, ...], said: list[str], check: bool) -> None:
    done = programs.run_forwarder(*UPSTREAM, *options, *(["--check"] if check else []))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("udp2tls: ")
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
def test_a_port_in_use_is_status_1_with_the_address_and_a_remedy(kind: socket.SocketKind) -> None:
    port = programs.free_port()
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        done = programs.run_forwarder(*UPSTREAM, "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    said = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    assert f"cannot listen on 127.0.0.1:{port} ({said}): Address already in use" in done.stderr
    assert f"ss -lunpt 'sport = :{port}'" in done.stderr
    assert "--listen ADDR:PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_the_configuration_means(certs: authority.Authority) -> None:
    done = programs.run_forwarder(
        "--check", "--listen", "127.0.0.1:5353", "--ca-file", certs.ca_file, "--upstream", "tls://[::1]:8853#a.example",
        "--upstream", "tls://b.example", "--timeout", "2.5",
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""
    for part in (
        "127.0.0.1:5353 (UDP and TCP)", "1. ::1 port 8853, certificate must be for a.example",
        "2. b.example port 853, certificate must be for b.example, address looked up by the system's resolver",
        certs.ca_file, "this machine only", "2.5 s",
    ):  # fmt: skip
        assert part in done.stdout


def test_version_is_printed() -> None:
    done = programs.run_forwarder("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"udp2tls \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("www.test.example", r"www\.test\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$"),
        ("www.test.example/A", r"IN\s+A\s+192\.0\.2\.1$"),
        ("www.test.example/aaaa", r"IN\s+AAAA\s+2001:db8::1$"),
        ("www.test.example/TXT", rf'IN\s+TXT\s+"{programs.TEXT}"$'),
        ("www.test.example/HTTPS", r"IN\s+HTTPS\s+1 \. alpn=\"?h2\"?$"),
        ("large.test.example/TXT", "019 xxx"),
        ("nothing.test.example/A", "NXDOMAIN"),
    ],
)
def test_resolve_asks_one_query_and_prints_the_answer(
    text: str, wanted: str, dnsdist: programs.Program, certs: authority.Authority
) -> None:
    done = programs.run_forwarder("--resolve", text, "--ca-file", certs.ca_file, *programs.upstream(dnsdist.port))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(wanted, done.stdout, re.MULTILINE)


def test_resolve_fails_with_a_reason_when_the_upstream_cannot_be_used(certs: authority.Authority) -> None:
    done = programs.run_forwarder(
        "--resolve", "www.test.example", "--ca-file", certs.ca_file, "--timeout", "1",
        *programs.upstream(programs.free_port()),
    )  # fmt: skip
    assert done.returncode == 1
    assert "SERVFAIL" in done.stdout
    assert "connection refused" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["www.test.example/NOTYPE", "a..b", "x" * 64 + ".example"])
def test_resolve_says_what_it_cannot_ask(text: str, certs: authority.Authority) -> None:
    done = programs.run_forwarder("--resolve", text, *UPSTREAM)
    assert done.returncode == 2
    assert "cannot ask" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_answers_over_udp_and_tcp(tmp_path: Path) -> None:
    with programs.forwarder(tmp_path, "--demo") as demo:
        for options in ((), ("+tcp",)):
            output = programs.dig(demo.port, "+noall", "+comments", "+answer", *options, "www.example", "A")
            assert re.search(r"IN\s+A\s+192\.0\.2\.1", output)
        output = programs.dig(demo.port, "large.example", "TXT")
        assert "retrying in TCP mode" in output
        assert "status: NOERROR" in output


@pytest.mark.parametrize("blank", ["", " "], ids=["plain", "blank-behind"])
def test_the_environment_configures_it_as_containers_do(
    blank: str, dnsdist: programs.Program, certs: authority.Authority, tmp_path: Path
) -> None:
    port = programs.free_port()
    environment = programs.clean_environment(
        HOST="127.0.0.1", PORT=f"{port}{blank}", DNS_HOST="127.0.0.1", DNS_PORT=f"{dnsdist.port}{blank}"
    )
    bridge = programs.forwarder(
        tmp_path, "--ca-file", certs.ca_file, port=port, environment=environment, listen=False
    )  # fmt: skip
    with bridge:
        assert "192.0.2.4" in programs.dig(port, "+short", "n4.test.example")


def test_the_port_alone_serves_the_default_addresses(
    dnsdist: programs.Program, certs: authority.Authority, tmp_path: Path
) -> None:
    port = programs.free_port()
    options = ("--ca-file", certs.ca_file, *programs.upstream(dnsdist.port))
    environment = programs.clean_environment(PORT=str(port))
    with programs.forwarder(tmp_path, *options, port=port, environment=environment, listen=False):
        assert "192.0.2.4" in programs.dig(port, "+short", "n4.test.example")
        assert "192.0.2.4" in programs.dig(port, "+short", "n4.test.example", host="::1")


def test_options_win_over_the_environment(
    dnsdist: programs.Program, certs: authority.Authority, tmp_path: Path
) -> None:
    environment = programs.clean_environment(HOST="192.0.2.200", PORT="1", DNS_HOST="192.0.2.201", DNS_PORT="2")
    options = ("--ca-file", certs.ca_file, *programs.upstream(dnsdist.port))
    with programs.forwarder(tmp_path, *options, environment=environment) as bridge:
        assert "192.0.2.4" in programs.dig(bridge.port, "+short", "n4.test.example")


def test_a_wrong_port_in_the_environment_is_status_2() -> None:
    done = programs.run_forwarder(*UPSTREAM, environment=programs.clean_environment(HOST="127.0.0.1", PORT="dns"))
    assert done.returncode == 2
    assert "environment" in done.stderr
    assert "'dns'" in done.stderr


def test_a_bare_checkout_serves_without_any_package(
    dnsdist: programs.Program, certs: authority.Authority, tmp_path: Path
) -> None:
    # -S: no site-packages; -E and -s: nothing from the user either. -I would hide the checkout itself.
    python = (sys.executable, "-S", "-E", "-s")
    options = ("--ca-file", certs.ca_file, *programs.upstream(dnsdist.port))
    with programs.forwarder(tmp_path, *options, python=python) as bridge:
        for extra in ((), ("+tcp",)):
            assert "192.0.2.9" in programs.dig(bridge.port, "+short", *extra, "n9.test.example")


def test_without_its_packages_the_program_says_which_one_is_missing(certs: authority.Authority) -> None:
    for options, package in (("--demo",), "cryptography"), (("--resolve", "n1.test.example"), "dnslib"):
        done = programs.run_forwarder(*options, python=(sys.executable, "-S", "-E", "-s"))
        assert done.returncode == 2
        assert f"pip install {package}" in done.stderr


def test_forwarding_loads_no_package_it_does_not_need(
    dnsdist: programs.Program, certs: authority.Authority, tmp_path: Path
) -> None:
    python = (sys.executable, "-X", "importtime")
    options = ("--ca-file", certs.ca_file, *programs.upstream(dnsdist.port))
    with programs.forwarder(tmp_path, *options, python=python) as bridge:
        assert "192.0.2.9" in programs.dig(bridge.port, "+short", "n9.test.example")
        loaded = set(re.findall(r"^import time:.*\|\s+([\w.]+)$", bridge.log, re.MULTILINE))
        assert "_udp2tls.links" in loaded
        assert {name.partition(".")[0] for name in loaded}.isdisjoint({"cryptography", "dnslib", "_cffi_backend"})


def test_nothing_is_said_of_clients_and_names_unless_asked_for(dnsdist: programs.Program, start: Start) -> None:
    for options, expected in ((), False), (("--log-queries",), True):
        bridge = start(*programs.upstream(dnsdist.port), *options)
        with contextlib.suppress(TimeoutError):
            asking.ask_udp(bridge.port, asking.make_query("n2.test.example"))
        assert ("n2.test.example" in bridge.log) is expected
