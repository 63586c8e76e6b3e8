"""The real thing on 127.0.0.1: dnsdist answers over TLS, udp2tls forwards, dnsperf asks.

dnsdist answers every name at once from memory, so the forwarder is what is slow. With two
cores the forwarder has the second to itself, and load and upstream share the first; with
one, all share it. Only processes started here are ended.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import udp2tls
from _udp2tls import demo
from bench import material

NAMES = 100_000

# What is needed besides this repository, by Debian package of the same name.
PROGRAMS = ("dnsdist", "dnsperf")

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def missing() -> str:
    """Return which programs are not installed, or an empty string."""
    return ", ".join(program for program in PROGRAMS if not shutil.which(program))


@dataclass(frozen=True)
class Load:
    """What dnsperf reported: seconds it ran, queries sent, and queries answered NOERROR."""

    seconds: float
    sent: int
    answered: int


class Loopback:
    """Upstream and forwarder, running. ``folder`` gets configuration, names and logs."""

    def __init__(self, folder: Path, files: demo.Files) -> None:
        self._folder = folder
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._forwarder_cores, self._other_cores = ({cores[1]}, {cores[0]}) if len(cores) > 1 else (set(), set())
        (folder / "names").write_text("".join(f"q{number:06d}.bench.example A\n" for number in range(NAMES)))
        self.upstream_port, self.plain_port, self.port = _free_ports(3)
        (folder / "dnsdist.conf").write_text(self._dnsdist_conf(files))
        self._upstream = self._start(
            ["dnsdist", "--supervised", "--disable-syslog", "-C", "dnsdist.conf"], self._other_cores
        )
        self._forwarder = self._start([
            sys.executable, udp2tls.__file__, "--listen", f"127.0.0.1:{self.port}", "--ca-file", files.ca_file,
            "--upstream", f"tls://127.0.0.1:{self.upstream_port}#{demo.NAME}",
        ], self._forwarder_cores)  # fmt: skip
        try:
            self._await(self.plain_port, self._upstream, "dnsdist")
            self._await(self.port, self._forwarder, "udp2tls")
        except BaseException:
            self.close()
            raise

    def _dnsdist_conf(self, files: demo.Files) -> str:
        tls = f'"127.0.0.1:{self.upstream_port}", "{files.server_file}", "{files.server_file}"'
        return "\n".join((
            'setACL({"127.0.0.0/8"})',
            'setSecurityPollSuffix("")',  # else it asks the Internet about itself
            "setMaxTCPClientThreads(1)",
            "setTCPRecvTimeout(60)",  # by default idle connections are closed after 2 s
            f'addTLSLocal({tls}, {{provider="openssl", maxInFlight=65535}})',
            f'addLocal("127.0.0.1:{self.plain_port}")',
            'addAction(AllRule(), SpoofAction("192.0.2.1", {ttl=3600}))',
        ))  # fmt: skip

    def _start(self, command: Sequence[str], cores: set[int]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{Path(command[0]).name}.log").open("ab") as log, _on(cores):
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)

    def _await(self, port: int, process: subprocess.Popen[bytes], name: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", port))
            sock.settimeout(0.2)
            for number in range(50):
                if process.poll() is not None:
                    break
                with suppress(OSError):
                    sock.send(material.query(number))
                    sock.recv(4096)
                    return
                time.sleep(0.05)
        raise RuntimeError(f"{name} does not answer; see the logs in {self._folder}")

    def load(self, outstanding: int, seconds: int, *, rate: int = 0) -> Load:
        """Run dnsperf; ``rate`` limits the queries per second."""
        command = [
            "dnsperf", "-s", "127.0.0.1", "-p", str(self.port), "-d", "names", "-l", str(seconds),
            "-q", str(outstanding), "-c", str(min(10, outstanding)), "-T", "1", "-t", "2",
            "-O", "suppress=timeouts,congestion,sendfailed,sockready,unexpected",
        ]  # fmt: skip
        if rate:
            command += ["-Q", str(rate)]
        with _on(self._other_cores):
            done = subprocess.run(
                command, cwd=self._folder, capture_output=True, text=True, timeout=seconds + 30, check=True
            )
        return Load(
            seconds=_figure(r"Run time \(s\):\s+([\d.]+)", done.stdout),
            sent=int(_figure(r"Queries sent:\s+(\d+)", done.stdout)),
            answered=int(_figure(r"NOERROR (\d+)", done.stdout)),
        )

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of CPU that the forwarder has used: in user mode, in the kernel."""
        fields = Path(f"/proc/{self._forwarder.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS

    def close(self) -> None:
        for process in (self._forwarder, self._upstream):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Processes started meanwhile stay on ``cores``, with all their threads; empty: anywhere."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_ports(count: int) -> list[int]:
    """Return ports free for TCP and UDP; somebody could take one before we do."""
    held: list[socket.socket] = []
    ports: list[int] = []
    while len(ports) < count:
        tcp, udp = socket.socket(socket.AF_INET, socket.SOCK_STREAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held += [tcp, udp]
        with suppress(OSError):
            tcp.bind(("127.0.0.1", 0))
            udp.bind(tcp.getsockname())
            ports.append(tcp.getsockname()[1])
    for sock in held:
        sock.close()
    return ports
