"""The real stunnel and we give the same verdict on every certificate under every configuration."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from _udp2tls.tls import Session
from stunnel_compat.service import Checks
from tests.peers import programs
from tests.stunnel_pki import LEAVES, Pki
from tests.test_stunnel_verify import judge, server_context, session

pytestmark = [pytest.mark.peers, pytest.mark.slow]

GREETING = b"hello"


class Greeter:
    """A TLS server that shows the certificate it is told to, and greets whom it shook hands with."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            try:
                sock.settimeout(10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each takes 40 ms
                assert self.context
                with self.context.wrap_socket(sock, server_side=True) as tls:
                    tls.sendall(GREETING)
                    tls.recv(1)
            except OSError:
                sock.close()


def section(number: int, checks: Checks, port: int, target: int) -> list[str]:
    lines = [f"[{number}]", "client = yes", f"accept = 127.0.0.1:{port}", f"connect = 127.0.0.1:{target}"]
    lines += ["verifyChain = yes"] if checks.chain else []
    lines += ["verifyPeer = yes"] if checks.peer else []
    for option, values in (
        ("checkHost", checks.hosts), ("checkIP", checks.addresses), ("checkEmail", checks.emails),
        ("CAfile", (checks.ca_file,)), ("CApath", (checks.ca_path,)), ("CRLfile", (checks.crl_file,)),
    ):  # fmt: skip
        lines += [f"{option} = {value}" for value in values if value or option == "checkHost"]
    return lines


def greeted(port: int) -> bool:
    """Say whether what is behind stunnel at that port gets through to us."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            return sock.recv(100) == GREETING
    except ConnectionResetError:
        return False


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("stunnel_pki"))


@pytest.fixture(scope="module")
def greeter() -> Iterator[Greeter]:
    with Greeter() as one:
        yield one


@pytest.fixture(scope="module")
def ports(pki: Pki, greeter: Greeter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Run one stunnel with a service for each configuration; give their ports."""
    folder: Path = tmp_path_factory.mktemp("stunnel")
    found: dict[str, int] = {}
    lines = ["foreground = yes", "pid =", "debug = 4"]
    for number, (name, checks) in enumerate(pki.configurations().items()):
        while (port := programs.free_port()) in found.values():
            pass
        found[name] = port
        lines += section(number, checks, port, greeter.port)
    file = folder / "stunnel.conf"
    file.write_text("\n".join(lines) + "\n")

    def ready(program: programs.Program) -> bool:
        try:
            for port in found.values():
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    greeter.context = server_context(pki, "good")
    with programs.Program("stunnel", [programs.find("stunnel4"), str(file)], folder, min(found.values()), ready):
        yield found


@pytest.fixture(scope="module")
def sessions(pki: Pki) -> dict[str, Session]:
    return {name: session(checks) for name, checks in pki.configurations().items()}


@pytest.mark.parametrize("leaf", LEAVES)
def test_stunnel_and_we_judge_alike(
    pki: Pki, greeter: Greeter, ports: dict[str, int], sessions: dict[str, Session], leaf: str
) -> None:
    greeter.context = context = server_context(pki, leaf)
    differ = {}
    for name, ours in sessions.items():
        ours.ticket = None
        refused = judge(ours, context)
        if greeted(ports[name]) == bool(refused):
            differ[name] = f"we: {refused or 'accepted'}"
    assert not differ
