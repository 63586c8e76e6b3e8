"""What stands on both sides of a forwarder on loopback: dnsdist, which answers, and dnsperf, which asks.

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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import material

NAMES = 100_000

# What is needed besides this repository, by Debian package of the same name.
PROGRAMS = ("dnsdist", "dnsperf")

_ANSWER = socket.inet_aton("192.0.2.1")
_PORTS = range(15000, 32000)  # below those the kernel takes for outgoing connections


def missing() -> str:
    """Return which programs are not installed, or an empty string."""
    return ", ".join(program for program in PROGRAMS if not shutil.which(program))


def cores() -> tuple[set[int], set[int]]:
    """Return where the forwarder runs and where all else does; empty sets on a machine with one core."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ({usable[1]}, {usable[0]}) if len(usable) > 1 else (set(), set())


@contextmanager
def on(where: set[int]) -> Iterator[None]:
    """Processes started meanwhile stay on these cores, with all their threads; empty: anywhere."""
    if not where:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_ports(count: int) -> list[int]:
    """Return ports free for TCP and UDP; somebody could take one before we do."""
    ports: list[int] = []
    start = _PORTS[os.getpid() * 37 % (len(_PORTS) // 2)]
    for port in range(start, _PORTS.stop):
        with (
            suppress(OSError),
            socket.socket(type=socket.SOCK_STREAM) as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("no free port")


def answers(port: int, seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Ask at ``port`` until the upstream's answer comes, at most so long and while ``alive``."""
    until = time.monotonic() + seconds
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(0.2)
        number = 0
        while time.monotonic() < until and alive():
            number += 1
            with suppress(OSError):
                sock.send(material.query(number))
                if _ANSWER in sock.recv(4096):  # a forwarder's own SERVFAIL is none
                    return True
            time.sleep(0.05)
    return False


def start(command: Sequence[str], folder: Path, where: set[int]) -> subprocess.Popen[bytes]:
    """Start a program in ``folder``; what it says goes to a log there."""
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log, on(where):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Upstream:
    """dnsdist at ``port`` over TLS with this certificate, running; ``folder`` gets its configuration and log.

    ``where``: on which cores; the load's, unless said otherwise.
    """

    def __init__(self, folder: Path, certificate: str, key: str, *, where: set[int] | None = None) -> None:
        self.port, plain_port = free_ports(2)
        tls = f'"127.0.0.1:{self.port}", "{certificate}", "{key}"'
        (folder / "dnsdist.conf").write_text("\n".join((
            'setACL({"127.0.0.0/8"})',
            'setSecurityPollSuffix("")',  # else it asks the Internet about itself
            "setMaxTCPClientThreads(1)",
            "setTCPRecvTimeout(60)",  # by default idle connections are closed after 2 s
            f'addTLSLocal({tls}, {{provider="openssl", maxInFlight=65535}})',
            f'addLocal("127.0.0.1:{plain_port}")',
            'addAction(AllRule(), SpoofAction("192.0.2.1", {ttl=3600}))',
        )))  # fmt: skip
        command = ["dnsdist", "--supervised", "--disable-syslog", "-C", "dnsdist.conf"]
        self._process = start(command, folder, cores()[1] if where is None else where)
        if not answers(plain_port, 10, lambda: self._process.poll() is None):
            self.close()
            raise RuntimeError(f"dnsdist does not answer; see its log in {folder}")

    def close(self) -> None:
        end(self._process)


@dataclass(frozen=True)
class Load:
    """What came of it: seconds it ran, queries sent, and queries answered NOERROR; latencies in microseconds."""

    seconds: float
    sent: int
    answered: int
    mean: float
    median: float = 0.0  # these two only where they were asked for
    centile99: float = 0.0

    @property
    def lost_percent(self) -> float:
        return 100 * (1 - self.answered / self.sent) if self.sent else 100.0


def write_names(folder: Path) -> None:
    """Write the names that ``dnsperf`` asks for."""
    (folder / "names").write_text("".join(f"q{number:06d}.bench.example A\n" for number in range(NAMES)))


def one_at_a_time(port: int, seconds: float) -> Load:
    """Ask the next only when the answer is there. Not with dnsperf: its sender oversleeps by up to 100 ms then."""
    sent = 0
    latencies: list[float] = []
    with on(cores()[1]), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sock.settimeout(2)
        begin = asked_at = time.perf_counter()
        while asked_at < begin + seconds:
            message = material.query(sent)
            sent += 1
            asked_at = time.perf_counter()
            with suppress(OSError):
                sock.send(message)
                while (answer := sock.recv(4096))[:2] != message[:2]:
                    pass  # a late one
                if not answer[3] & 15:
                    latencies.append(1e6 * (time.perf_counter() - asked_at))
        took = time.perf_counter() - begin
    mean = sum(latencies) / max(1, len(latencies))
    return Load(took, sent, len(latencies), mean, *_median_and_centile99(latencies))


def dnsperf(
    folder: Path, port: int, outstanding: int, seconds: int, *, rate: int = 0, latencies: bool = False,
    where: set[int] | None = None,
) -> Load:  # fmt: skip
    """Load a forwarder. ``rate`` limits the queries per second; ``latencies`` costs dnsperf a line a query."""
    command = [
        "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", "names", "-l", str(seconds),
        "-q", str(outstanding), "-c", str(min(10, outstanding)), "-T", "1", "-t", "2",
        "-O", "suppress=timeouts,congestion,sendfailed,sockready,unexpected",
    ]  # fmt: skip
    if rate:
        command += ["-Q", str(rate)]
    if latencies:
        command += ["-v"]
    with on(cores()[1] if where is None else where):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 30, check=True)
    each = [1e6 * float(text) for text in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", done.stdout, re.M)]
    median, centile99 = _median_and_centile99(each)
    return Load(
        seconds=_figure(r"Run time \(s\):\s+([\d.]+)", done.stdout),
        sent=int(_figure(r"Queries sent:\s+(\d+)", done.stdout)),
        answered=int(_figure(r"NOERROR (\d+)", done.stdout)),
        mean=1e6 * _figure(r"Average Latency \(s\):\s+([\d.]+)", done.stdout),
        median=median,
        centile99=centile99,
    )


def _median_and_centile99(latencies: list[float]) -> tuple[float, float]:
    each = sorted(latencies) or [0.0]
    return each[len(each) // 2], each[len(each) * 99 // 100]


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0
