"""The servers under test run once for all tests that only ask them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import authority
from tests.peers import dnscrypt, late, programs, relay

Start = Callable[..., programs.Program]


@pytest.fixture(scope="session")
def long_run() -> bool:
    """True when UDP2TLS_LONG asks for the long version of tests that have one."""
    return os.environ.get("UDP2TLS_LONG") == "1"


@pytest.fixture(scope="session")
def server_named(
    certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], programs.Program]]:
    """Give the running server of that name, started when first asked for."""
    running: dict[str, programs.Program] = {}
    with contextlib.ExitStack() as stack:

        def server(name: str) -> programs.Program:
            if name not in running:
                program = programs.SERVERS[name](certs, tmp_path_factory.mktemp(name))
                running[name] = stack.enter_context(program)
            return running[name]

        yield server


@pytest.fixture(scope="session")
def dnscrypt_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dnscrypt.DnsCrypt]:
    """One DNSCrypt server for all who only ask it; whoever rotates keys or stops it starts another."""
    with late.Late() as backend:
        folder = tmp_path_factory.mktemp("dnscrypt")
        with dnscrypt.DnsCrypt(folder, in_flight=100, backend=backend.port) as program:
            yield program


@pytest.fixture
def dnscrypt_relay() -> Iterator[relay.Relay]:
    """Give a relay that is faultless until told otherwise; its own queries come from 127.0.0.2."""
    with relay.Relay() as one:
        yield one


@pytest.fixture
def start(certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Give a function that starts a forwarder with these options, which trusts the tests' authority."""
    with contextlib.ExitStack() as stack:

        def start_one(*options: str, ca_file: str = certs.ca_file, host: str = "127.0.0.1") -> programs.Program:
            folder: Path = tmp_path_factory.mktemp("udp2tls")
            return stack.enter_context(programs.forwarder(folder, "--ca-file", ca_file, *options, host=host))

        yield start_one
