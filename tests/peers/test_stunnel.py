"""stunnel.conf files run as they are: one service, three services, reading anew, another user, the log."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import authority
from tests.peers import asking, programs, scripted

pytestmark = pytest.mark.peers

CASES = programs.CHECKOUT.parent / "shared" / "stunnel_cases"


def run(folder: Path, text: str, *options: str, ready: Callable[[programs.Program], bool] | None = None
        ) -> programs.Program:  # fmt: skip
    """Return the forwarder with a stunnel.conf; ready when its last ``accept`` is listened on."""
    file = folder / "stunnel.conf"
    file.write_text(text)
    last = re.findall(r"accept\s*=\s*(\S+)", text)[-1]
    return programs.Program(
        "udp2tls", programs.command_line(str(file), *options), folder, int(last.rpartition(":")[2]),
        ready or (lambda program: f"listening on {last}," in program.log), programs.clean_environment(),
    )  # fmt: skip


def test_the_articles_file_answers_over_udp_and_tcp_on_its_one_address(
    certs: authority.Authority, server_named: Callable[[str], programs.Program], tmp_path: Path
) -> None:
    port = programs.free_port()
    text = f"""[dns]
client = yes
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{server_named("unbound").port}
CAfile = {certs.ca_file}
verifyChain = yes
checkIP = 127.0.0.1
"""
    with run(tmp_path, text) as bridge:
        for arguments in ((), ("+tcp",)):
            output = programs.dig(port, "www.test.example", "+short", *arguments)
            assert output.split() == ["192.0.2.1"]
        assert "WARNING" not in bridge.log


@pytest.mark.parametrize("check", ["checkIP = 192.0.2.9", "checkHost = other.example"])
def test_a_server_that_is_not_who_the_file_wants_gets_no_query(
    check: str, certs: authority.Authority, tmp_path: Path
) -> None:
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        port = programs.free_port()
        text = (
            f"[dns]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server.port}\n"
            f"CAfile = {certs.ca_file}\nverifyChain = yes\n{check}\n"
        )
        with run(tmp_path, text, "--timeout", "1") as bridge:
            answer = asking.ask_udp(port, asking.make_query("n1.test.example", opt=asking.opt_record()))
            assert asking.rcode_of(answer) == asking.SERVFAIL
            assert "no name matches" in asking.extended_error(answer)
            assert server.queries == []
            assert bridge.log.count("cannot use") == 1


def test_three_services_in_one_file_ask_three_upstreams_by_udp_and_tcp(
    certs: authority.Authority, tmp_path: Path
) -> None:
    context = scripted.good_context(certs)
    with (
        scripted.Server(scripted.serve, context) as one,
        scripted.Server(scripted.serve, context) as two,
        scripted.Server(scripted.serve, context) as three,
    ):
        servers = [one, two, three]
        ports = [programs.free_port() for _ in servers]
        text = f"options = NO_TLSv1.1\nverifyChain = yes\nCAfile = {certs.ca_file}\nclient = yes\n" + "".join(
            f"[dns-{number}]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server.port}\ncheckIP = 127.0.0.1\n"
            for number, (port, server) in enumerate(zip(ports, servers))
        )
        with run(tmp_path, text):
            for number, port in enumerate(ports):
                message = asking.make_query(f"n{number}.test.example")
                assert asking.is_right(message, asking.ask_udp(port, message))
                assert asking.is_right(message, asking.ask_tcp(port, message))
            assert [len(server.queries) for server in servers] == [2, 2, 2]


def test_the_file_is_read_anew_under_load_as_init_scripts_do(certs: authority.Authority, tmp_path: Path) -> None:
    context = scripted.good_context(certs)
    with scripted.Server(scripted.serve, context) as one, scripted.Server(scripted.serve, context) as two:
        port = programs.free_port()

        def text(server: scripted.Server, more: str = "") -> str:
            return (
                f"output = {tmp_path}/stunnel.log\npid = {tmp_path}/stunnel.pid\n[dns]\nclient = yes\n"
                f"accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server.port}\nCAfile = {certs.ca_file}\n"
                f"verifyChain = yes\ncheckHost = {authority.NAME}\n{more}"
            )

        log = tmp_path / "stunnel.log"
        with run(tmp_path, text(one), ready=lambda _: log.exists() and "listening" in log.read_text()) as bridge:
            assert (tmp_path / "stunnel.pid").read_text().strip() == str(bridge.pid)

            async def load() -> asking.Tally:
                asked = asyncio.create_task(asking.Asker.ask(port, 200, 5))
                for server, more in (two, ""), (one, "nonsense = yes\n"), (one, ""):
                    await asyncio.sleep(1.2)
                    (tmp_path / "stunnel.conf").write_text(text(server, more))
                    bridge.signal(signal.SIGHUP)
                return await asked

            tally = asyncio.run(load())
            print(tally)
            assert tally.right == tally.sent
            assert len(two.queries) > 300
            assert "Specified option name is not valid here" in log.read_text()
            log.rename(tmp_path / "stunnel.log.1")
            bridge.signal(signal.SIGUSR1)
            scripted.wait_until(lambda: log.exists() and "open anew" in log.read_text())
        assert not (tmp_path / "stunnel.pid").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_the_user_of_the_file_after_binding_a_low_port(certs: authority.Authority, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        text = (
            "setuid = nobody\nsetgid = nogroup\npid =\n[dns]\nclient = yes\n"
            f"accept = 127.0.0.1:{programs.free_port()}\nconnect = 127.0.0.1:{server.port}\n"
            f"CAfile = {certs.ca_file}\nverifyChain = yes\ncheckIP = 127.0.0.1\n"
        )
        with run(tmp_path, text) as bridge:
            message = asking.make_query("n3.test.example")
            assert asking.is_right(message, asking.ask_udp(bridge.port, message))
            status = Path(f"/proc/{bridge.pid}/status").read_text()
            nobody = pwd.getpwnam("nobody").pw_uid
            assert re.search(rf"Uid:\s+{nobody}\s+{nobody}\s+{nobody}", status)
            assert re.search(r"CapEff:\s+0+\n", status)


@pytest.mark.slow
@pytest.mark.skipif(not CASES.exists(), reason="the cases recorded from the real stunnel are not beside this checkout")
def test_every_recorded_case_has_stunnels_verdict(tmp_path: Path) -> None:
    command = " ".join(programs.command_line("{conf}"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.stunnel_confs.recorded", str(CASES), str(tmp_path), command],
        cwd=programs.CHECKOUT, env=programs.clean_environment(), capture_output=True, text=True, timeout=400,
        check=False,
    )  # fmt: skip
    assert re.search(r"^\d+ cases, 0 verdicts differ", done.stdout, re.MULTILINE), done.stdout + done.stderr[-2000:]
