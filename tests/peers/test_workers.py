"""``--workers``: the real program with two, under load, killed, told to read anew and to stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from _udp2tls import workers
from tests import authority
from tests.peers import asking, programs, scripted

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        sys.platform != "linux" or not workers.available(), reason="one port has several processes on Linux alone"
    ),
]


def children(program: programs.Program) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()]


def counted(program: programs.Program) -> dict[str, int]:
    """Return by worker how many queries it says it has had, at its last."""
    found = re.findall(r"worker (\d+): counters, in all: queries (\d+)", program.log)
    return {number: int(queries) for number, queries in found}


def start(tmp_path: Path, server: scripted.Server, certs: authority.Authority, *more: str) -> programs.Program:
    options = *programs.upstream(server.port), "--ca-file", certs.ca_file, "--workers", "2", *more
    return programs.forwarder(tmp_path, *options)


def both_listen(program: programs.Program) -> bool:
    return program.log.count("listening on") == 2


def test_many_clients_reach_both_and_all_end_with_status_0(certs: authority.Authority, tmp_path: Path) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        start(tmp_path, server, certs) as program,
    ):
        scripted.wait_until(lambda: both_listen(program))
        pids = children(program)
        assert len(pids) == 2
        for ask in asking.ask_udp, asking.ask_tcp:
            for serial in range(40):
                message = asking.make_query(asking.numbered(serial))
                assert asking.is_right(message, ask(program.port, message))
        program.signal(signal.SIGUSR2)
        scripted.wait_until(lambda: len(counted(program)) == 2)
        assert sum(counted(program).values()) == 80
        assert min(counted(program).values()) > 10
        program.signal(signal.SIGTERM)
        assert program.process.wait(10) == 0
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_worker_killed_under_load_is_replaced_and_the_others_clients_notice_nothing(
    certs: authority.Authority, tmp_path: Path
) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        start(tmp_path, server, certs) as program,
    ):
        scripted.wait_until(lambda: both_listen(program))
        victim = children(program)[0]

        async def run() -> list[asking.Tally]:
            load = [asyncio.create_task(asking.Asker.ask(program.port, 50, 4, patience=1)) for _ in range(16)]
            await asyncio.sleep(1.5)
            os.kill(victim, signal.SIGKILL)
            return await asyncio.gather(*load)

        tallies = asyncio.run(run())
        print(*tallies, sep="\n")
        assert all(not tally.wrong and not tally.stray and not tally.servfail for tally in tallies)
        untouched = [tally for tally in tallies if tally.right == tally.sent and tally.worst < 0.1]
        assert untouched, "the other worker's clients"
        # In flight in the moment of death; what came afterwards waited in the socket.
        assert all(tally.unanswered <= 3 for tally in tallies)
        assert all(tally.worst < 1 for tally in tallies)
        assert f"(process {victim}) was ended by signal 9; started again after 0.1 s" in program.log
        assert len(children(program)) == 2
        for _ in range(20):
            message = asking.make_query("n3.test.example")
            assert asking.is_right(message, asking.ask_udp(program.port, message, timeout=1))
        program.signal(signal.SIGTERM)
        assert program.process.wait(10) == 0


def test_without_the_supervisor_the_workers_end(certs: authority.Authority, tmp_path: Path) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        start(tmp_path, server, certs) as program,
    ):
        scripted.wait_until(lambda: both_listen(program))
        pids = children(program)
        time.sleep(0.3)
        program.kill()
        scripted.wait_until(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_sighup_moves_both_to_another_upstream_and_port_without_losing_a_query(
    certs: authority.Authority, tmp_path: Path
) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as one,
        scripted.Server(scripted.serve, scripted.good_context(certs)) as two,
    ):
        port, second, third = (programs.free_port() for _ in range(3))
        file = tmp_path / "udp2tls.toml"

        def write(upstream: int, other: int) -> None:
            file.write_text(
                f'listen = ["127.0.0.1:{port}", "127.0.0.1:{other}"]\nca_file = "{certs.ca_file}"\n'
                f'upstream = "tls://127.0.0.1:{upstream}#{authority.NAME}"\nworkers = 2\n'
            )

        write(one.port, second)
        program = programs.Program(
            "udp2tls", programs.command_line(str(file)), tmp_path, port,
            lambda program: program.log.count("listening on") == 4, programs.clean_environment(),
        )  # fmt: skip
        with program:

            async def run() -> list[asking.Tally]:
                load = [asyncio.create_task(asking.Asker.ask(port, 50, 3)) for _ in range(8)]
                await asyncio.sleep(1)
                write(two.port, third)
                program.signal(signal.SIGHUP)
                return await asyncio.gather(*load)

            for tally in asyncio.run(run()):
                assert tally.right == tally.sent
                assert not tally.stray
            assert program.log.count("was read anew") == 2
            assert len(two.queries) > 200
            for _ in range(10):
                message = asking.make_query("n3.test.example")
                assert asking.is_right(message, asking.ask_udp(third, message, timeout=1))
                with pytest.raises(ConnectionRefusedError):
                    asking.ask_udp(second, message, timeout=1)
            program.signal(signal.SIGTERM)
            assert program.process.wait(10) == 0


def test_a_port_that_another_has_is_refused_with_status_1(certs: authority.Authority, tmp_path: Path) -> None:
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        start(tmp_path, server, certs) as program,
    ):
        said = programs.run_forwarder(
            "--listen", f"127.0.0.1:{program.port}", *programs.upstream(server.port), "--ca-file", certs.ca_file,
            "--workers", "2",
        )  # fmt: skip
        assert said.returncode == 1
        assert "another program holds the port" in said.stderr
