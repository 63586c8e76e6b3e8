"""As a service: socket activation, readiness, reading the configuration anew under load, the pid file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import authority
from tests.peers import asking, programs, scripted

pytestmark = pytest.mark.peers

# Starts the program as systemd would: with the sockets at 3 and on, and LISTEN_PID its own number.
_ACTIVATE = """
import os, sys
os.environ['LISTEN_PID'] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def bound(kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        sock.listen(16)
    return sock


def test_sockets_from_systemd_are_served_and_it_is_told_when_all_is_ready(
    certs: authority.Authority, tmp_path: Path
) -> None:
    port = programs.free_port()
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        bound(socket.SOCK_DGRAM, port) as udp,
        bound(socket.SOCK_STREAM, port) as tcp,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        environment = programs.clean_environment(
            LISTEN_FDS="2", LISTEN_FDNAMES="dns:dns", NOTIFY_SOCKET=str(tmp_path / "notify")
        )
        command = programs.command_line(*programs.upstream(server.port), "--ca-file", certs.ca_file)

        def hand_over() -> None:
            os.dup2(udp.fileno(), 3)
            os.dup2(tcp.fileno(), 4)

        process = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, *command[1:]], env=environment, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, pass_fds=(3, 4), preexec_fn=hand_over, text=True,
        )  # fmt: skip
        try:
            assert manager.recv(100) == b"READY=1"
            message = asking.make_query("n3.test.example")
            assert asking.is_right(message, asking.ask_udp(port, message))
            assert asking.is_right(message, asking.ask_tcp(port, message))
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait(10)
        assert process.returncode == 0
        assert f"listening on 127.0.0.1:{port}" in said
        assert said.count("listening on") == 1, "not on the default addresses besides"


def test_sighup_under_load_loses_nothing_and_a_bad_file_changes_nothing(
    certs: authority.Authority, tmp_path: Path
) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as one,
        scripted.Server(scripted.serve, scripted.good_context(certs)) as two,
    ):
        port = programs.free_port()
        file = tmp_path / "udp2tls.toml"

        def write(upstream: int, more: str = "") -> None:
            file.write_text(
                f'listen = "127.0.0.1:{port}"\nca_file = "{certs.ca_file}"\n'
                f'upstream = "tls://127.0.0.1:{upstream}#{authority.NAME}"\n{more}'
            )

        write(one.port)
        command = programs.command_line(str(file))
        program = programs.Program(
            "udp2tls", command, tmp_path, port, lambda program: "listening on" in program.log,
            programs.clean_environment(),
        )  # fmt: skip
        with program:

            async def run() -> asking.Tally:
                load = asyncio.create_task(asking.Asker.ask(port, 200, 6))
                for upstream, more in (two.port, ""), (one.port, "nonsense = 1\n"), (one.port, ""):
                    await asyncio.sleep(1.5)
                    write(upstream, more)
                    program.signal(signal.SIGHUP)
                return await load

            tally = asyncio.run(run())
            print(tally)
            assert tally.right == tally.sent
            assert tally.stray == []
            assert program.log.count("was read anew") == 2
            assert "unknown name 'nonsense'" in program.log
            assert len(two.queries) > 400, "between the first and the last"
            scripted.wait_until(lambda: program.log.count("a new configuration has taken over") >= 2)


def test_sigusr1_opens_the_log_and_sigusr2_says_the_counters(certs: authority.Authority, tmp_path: Path) -> None:
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        options = *programs.upstream(server.port), "--ca-file", certs.ca_file
        with programs.forwarder(tmp_path, *options) as bridge:
            message = asking.make_query("n3.test.example")
            assert asking.is_right(message, asking.ask_udp(bridge.port, message))
            bridge.signal(signal.SIGUSR2)
            scripted.wait_until(lambda: "counters, in all: queries 1, answers 1" in bridge.log)
            assert f"counters, tls://127.0.0.1:{server.port}#{authority.NAME}: connections 1" in bridge.log
            bridge.signal(signal.SIGUSR1)
            time.sleep(0.2)
            assert asking.is_right(message, asking.ask_udp(bridge.port, message))
