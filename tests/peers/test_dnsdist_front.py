"""contrib/dnsdist.conf, its ports replaced: dnsdist in front of three udp2tls, one of which is killed under load.

As systemd would do it with contrib's units, the test holds the sockets of each udp2tls and starts it again
a tenth of a second after its end (RestartSec=100ms); it is not otherwise helped. dnsperf asks once
and never again, so that an answer that dnsdist or udp2tls lost would be counted as lost.
UDP2TLS_LONG=1: 5000 queries a second for ten seconds, else less.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests import authority
from tests.peers import asking, programs, scripted

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="as systemd does it"),
]

FILE = programs.CHECKOUT / "contrib" / "dnsdist.conf"
PORTS = (5301, 5302, 5303)  # as the file has them
RESTART = 0.1  # RestartSec= of the units that the file's first lines make


class Instance:
    """One udp2tls, its sockets held here; started again when it ends, while ``kept``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = programs.free_port()
        self.starts = 0
        self.kept = True
        self.log_file = folder / f"udp2tls-{self.port}.log"
        self._folder = folder
        self._options = options
        self._sockets: list[socket.socket] = []
        self._process: subprocess.Popen[bytes]
        self._thread = threading.Thread(target=self._keep)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu(self) -> int:
        """Nanoseconds, since its start."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])

    def __enter__(self) -> Self:
        for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
            sock = socket.socket(socket.AF_INET, kind)
            self._sockets.append(sock)
            sock.bind(("127.0.0.1", self.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
        self._start()
        self._thread.start()
        return self

    def __exit__(self, *about: object) -> None:
        self.kept = False
        self._process.terminate()
        self._thread.join()
        for sock in self._sockets:
            sock.close()

    def _start(self) -> None:
        high = [fcntl.fcntl(sock, fcntl.F_DUPFD, 10 + number) for number, sock in enumerate(self._sockets)]
        moved = " ".join(f"{place}<&{number} {number}<&-" for place, number in enumerate(high, 3))
        command = ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS={len(high)} exec "$@" {moved}', "bash"]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command + programs.command_line("--listen", f"127.0.0.1:{self.port}", *self._options),
                env=programs.clean_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=high,
            )  # fmt: skip
        for number in high:
            os.close(number)
        self.starts += 1

    def _keep(self) -> None:
        while True:
            self._process.wait()
            time.sleep(RESTART)
            if not self.kept:
                return
            self._start()


def dnsdist(folder: Path, ports: dict[int, int]) -> programs.Program:
    """Return dnsdist with the file from contrib, each port of which is replaced."""
    text = FILE.read_text()
    for old, new in ports.items():
        text, count = re.subn(rf"\b{old}\b", str(new), text)
        assert count, old
    (folder / "dnsdist.conf").write_text(text)

    def serves(program: programs.Program) -> bool:
        message = asking.make_query("n1.test.example")
        try:
            return asking.is_right(message, asking.ask_udp(program.port, message, timeout=0.5))
        except OSError:
            return False

    command = [programs.find("dnsdist"), "--supervised", "--disable-syslog", "-C", "dnsdist.conf"]
    return programs.Program("dnsdist", command, folder, ports[53], serves)


@contextmanager
def front(folder: Path, upstream: int, certs: authority.Authority) -> Iterator[tuple[programs.Program, list[Instance]]]:
    """Run dnsdist and three udp2tls behind it, which ask the server at ``upstream``."""
    options = *programs.upstream(upstream), "--ca-file", certs.ca_file
    with ExitStack() as stack:
        instances = [stack.enter_context(Instance(folder, *options)) for _ in PORTS]
        ports = {53: programs.free_port(), **dict(zip(PORTS, (one.port for one in instances)))}
        yield stack.enter_context(dnsdist(folder, ports)), instances


def load(folder: Path, port: int, rate: int, seconds: int, mode: str = "udp") -> tuple[dict[str, int], float]:
    """Ask with dnsperf; return what it counted, and the longest latency."""
    names = folder / "names"
    names.write_text("".join(f"{asking.numbered(serial)} A\n" for serial in range(20_000)))
    done = subprocess.run(
        [programs.find("dnsperf"), "-s", "127.0.0.1", "-p", str(port), "-d", str(names), "-l", str(seconds),
         "-Q", str(rate), "-m", mode, "-q", "20000", "-c", "10", "-T", "1", "-b", "4096", "-t", "5"],
        capture_output=True, text=True, timeout=seconds + 60, check=True,
    )  # fmt: skip
    print(done.stdout[done.stdout.find("Statistics:") :])
    found = {what: int(number) for what, number in re.findall(r"Queries (\w+):\s+(\d+)", done.stdout)}
    right = re.search(r"NOERROR (\d+)", done.stdout)
    found["right"] = int(right[1]) if right else 0
    longest = re.search(r"Average Latency.*max ([\d.]+)", done.stdout)
    return found, float(longest[1]) if longest else 0.0


@contextmanager
def meanwhile(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Do it so many seconds from now, once."""
    timer = threading.Timer(seconds, action)
    timer.start()
    yield
    timer.join()


def busiest(instances: Sequence[Instance]) -> Instance:
    """Return who has worked most in the last tenth of a second: who is sure to be hit under load."""
    before = [one.cpu for one in instances]
    time.sleep(0.1)
    return max(zip(instances, before), key=lambda pair: pair[0].cpu - pair[1])[0]


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_one_of_three_is_killed_under_load_and_every_query_is_answered(
    server_named: Callable[[str], programs.Program], certs: authority.Authority, tmp_path: Path, long_run: bool,
    mode: str,
) -> None:  # fmt: skip
    rate, seconds = (5000, 10) if long_run else (1000, 4)
    with front(tmp_path, server_named("dnsdist").port, certs) as (program, instances):
        with meanwhile(seconds / 2, lambda: os.kill(busiest(instances).pid, signal.SIGKILL)):
            found, longest = load(tmp_path, program.port, rate, seconds, mode)
        assert sorted(one.starts for one in instances) == [1, 1, 2]
        assert found["sent"] > 0.8 * rate * seconds, "dnsperf was held up"
        assert found["lost"] == 0
        assert found["right"] == found["completed"] == found["sent"]
        assert longest < 3, "found again before a client would lose patience"
        message = asking.make_query("large.test.example", asking.TXT)
        assert asking.ask_udp(program.port, message)[2] & 2, "cut to the client's size"
        assert len(asking.ask_tcp(program.port, message)) > 4000


def test_one_that_hangs_is_avoided_and_then_marked_down(
    server_named: Callable[[str], programs.Program], certs: authority.Authority, tmp_path: Path
) -> None:
    with front(tmp_path, server_named("dnsdist").port, certs) as (program, instances):
        victim = busiest(instances)
        with meanwhile(1, lambda: os.kill(victim.pid, signal.SIGSTOP)):
            found, _ = load(tmp_path, program.port, 500, 6)
        down = f"(127.0.0.1:{victim.port}) as 'down'"
        up = f"(127.0.0.1:{victim.port}) as 'up'"
        assert program.log.count(down) == 1
        # Those whose turn it was when it stopped; not one in three.
        assert found["lost"] < 0.05 * found["sent"]
        os.kill(victim.pid, signal.SIGCONT)
        scripted.wait_until(lambda: program.log.count(up) == 2)


def test_the_units_that_the_file_describes_are_as_systemd_wants_them(tmp_path: Path) -> None:
    lines = [line.removeprefix("--").strip() for line in FILE.read_text().splitlines() if line.startswith("--   ")]
    readme = (programs.CHECKOUT / "README.md").read_text().splitlines()
    assert set(lines) <= {line.strip() for line in readme}, "the README has the same commands"
    commands = re.findall(r"^sed .*?@\.(?:service|socket)$", "\n".join(lines), re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        said = command.replace("sudo tee /etc/systemd/system/", f"tee {tmp_path}/")
        subprocess.run(["sh", "-c", said], cwd=FILE.parent, check=True, capture_output=True)
    service, units = tmp_path / "udp2tls@.service", (tmp_path / "udp2tls@.socket").read_text()
    assert re.findall(r"^Listen(\w+)=(.*)$", units, re.MULTILINE) == [
        ("Datagram", "127.0.0.1:%i"), ("Stream", "127.0.0.1:%i"),
    ]  # fmt: skip
    service.write_text(service.read_text().replace("/opt/udp2tls/bin/udp2tls", sys.executable))
    text = service.read_text()
    assert f"\nRestartSec={RESTART * 1000:.0f}ms\n" in text
    assert re.findall(r"^(?:Wants|After)=(\S+)", text, re.MULTILINE) == ["udp2tls@%i.socket"] * 2
    instances = [str(tmp_path / f"udp2tls@{PORTS[0]}.{kind}") for kind in ("service", "socket")]
    done = subprocess.run(
        [programs.find("systemd-analyze"), "verify", "--man=no", *instances],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
