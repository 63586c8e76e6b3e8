"""How large a pending query, a TCP client and a connection to an upstream are, and how soon the program answers.

A pending query is weighed by tracemalloc, among ``crowd``'s fakes. All else is the real
program on loopback, with the demo's resolver, which runs here in a thread: what it has
resident before and after, from /proc, and the clock. Resident memory holds what OpenSSL
takes, which tracemalloc does not see; neither has the kernel's buffers in it.

The program with 50,000 pending has an upstream that has answered, and then reads on and
says nothing: it notices, connects anew and asks some of them again, all of which is in its
memory. It serves ``scale``, and asserts nothing but that all of them are pending.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from _udp2tls import demo, system
from _udp2tls.clients import TCP_CLIENTS
from _udp2tls.config import Config, UpstreamSpec
from bench import load, material
from bench.crowd import Crowd, Size
from tests.peers import scripted
from udp2tls import Forwarder

ROOT = Path(__file__).parent.parent
PENDING, UPSTREAMS, STARTS = 50_000, 20, 9
LONE, ROUNDS = 500, 12  # queries, one at a time, to see what the program spends on each
CHEAPEST = f"CPU with the kernel's, over UDP, cheapest {LONE} of {ROUNDS * LONE}"
NO_LINGER = struct.pack("ii", 1, 0)  # closed at once, without minutes in the kernel's memory


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str
    how: str


def report(figures: Sequence[Figure]) -> str:
    return "\n".join(f"{one.what:48}{one.value:10.1f} {one.unit:6} {one.how}" for one in figures)


def pending(files: demo.Files) -> Figure:
    """Weigh a query that waits, with its message of 37 bytes."""
    with Crowd(files, Size()) as crowd:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            crowd.leave_pending(PENDING)
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    return Figure("a pending query", taken / PENDING, "bytes", f"tracemalloc, of {PENDING}")


@contextmanager
def resolvers(files: demo.Files, count: int) -> Iterator[list[int]]:
    """Run the demo's resolver on so many ports, in a thread."""
    nobody = Config((UpstreamSpec("127.0.0.1", 1, demo.NAME),), listen=(), ca_file=files.ca_file, moderation=0.0)
    forwarder = Forwarder(nobody)
    ports = []
    for _ in range(count):
        sock, port = system.open_demo_listener()
        forwarder.clients.listen_tcp(sock, False, demo.codec_factory(files), demo.answer)
        ports.append(port)

    def run() -> None:
        while not stop.is_set():
            forwarder.turn(0.2)
        forwarder.close()

    stop = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ports
    finally:
        stop.set()
        thread.join()


class Program:
    """udp2tls as it is started, listening; ``listening`` and ``answering`` are seconds since then."""

    def __init__(
        self, files: demo.Files, folder: Path, ports: Sequence[int], strategy: str = "ordered", timeout: int = 4
    ) -> None:
        (self.port,) = load.free_ports(1)
        command = [sys.executable, "-m", "udp2tls", "-l", f"127.0.0.1:{self.port}", "--ca-file", files.ca_file,
                   "--strategy", strategy, "--timeout", str(timeout)]  # fmt: skip
        self.log_file = folder / "program.log"
        for port in ports:
            command += ["-u", f"tls://127.0.0.1:{port}#{demo.NAME}"]
        path = folder / "notify"
        path.unlink(missing_ok=True)
        environment = os.environ | {"NOTIFY_SOCKET": str(path)}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log_file.open("wb") as log:
            ready.bind(str(path))
            ready.settimeout(20)
            begin = time.perf_counter()
            with load.on(load.cores()[0]):
                self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment)
            try:
                while b"READY=1" not in ready.recv(100):
                    pass
                self.listening = time.perf_counter() - begin
                self.ask(1)
                self.answering = time.perf_counter() - begin
            except OSError as error:
                self.close()
                raise RuntimeError(self.log_file.read_text()) from error

    def ask(self, count: int) -> None:
        """Ask over UDP, each when the one before was answered."""
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", self.port))
            sock.settimeout(5)
            for number in range(count):
                sock.send(material.query(number))
                sock.recv(4096)

    @property
    def resident(self) -> int:
        """Bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def most_resident(self) -> int:
        """Bytes, at any time until now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    @property
    def unread(self) -> int:
        """Bytes of queries that wait in its UDP socket; raises RuntimeError when the kernel has dropped some."""
        for _ in range(20):  # the kernel's list is no snapshot: a line may be missing while sockets come and go
            for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[1] == f"0100007F:{self.port:04X}":
                    if int(fields[-1]):
                        raise RuntimeError(f"{fields[-1]} queries did not fit its socket")
                    return int(fields[4].partition(":")[2], 16)
        raise RuntimeError("it does not listen")

    @property
    def queries(self) -> int:
        """How many it says it has had."""
        self._process.send_signal(signal.SIGUSR2)
        for _ in range(100):
            time.sleep(0.05)
            if found := re.findall(r"in all: queries (\d+)", self.log_file.read_text()):
                return int(found[-1])
        raise RuntimeError("it does not say its counters")

    @property
    def cpu(self) -> float:
        """Seconds, user and system; of its one thread, and finer than /proc/PID/stat."""
        return int(Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]) / 1e9

    def close(self) -> None:
        load.end(self._process)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


def costs(*programs: Program) -> list[float]:
    """Return microseconds of CPU for a lone query, for each in the cheapest of its rounds, which go in turn."""
    spent: list[list[float]] = [[] for _ in programs]
    for _ in range(ROUNDS):
        for program, found in zip(programs, spent):
            before = program.cpu
            program.ask(LONE)
            found.append(1e6 * (program.cpu - before) / LONE)
    return [min(found) for found in spent]


def of_program(files: demo.Files, folder: Path) -> list[Figure]:
    """Measure the program itself. Linux only."""
    with load.on(load.cores()[1]), resolvers(files, UPSTREAMS) as ports:
        return [*_start(files, folder, ports[:1]), *_silent(files, folder),
                *_tcp_clients(files, folder, ports[:1]), *_upstreams(files, folder, ports)]  # fmt: skip


def _seconds_of(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - begin


def _start(files: demo.Files, folder: Path, ports: Sequence[int]) -> list[Figure]:
    python, imported = [], []
    listening, answering, resident = [], [], []
    for _ in range(STARTS):
        python.append(_seconds_of("pass"))
        imported.append(_seconds_of("import udp2tls"))
        with Program(files, folder, ports) as program:
            listening.append(program.listening)
            answering.append(program.answering)
            resident.append(program.resident)
    how = f"fastest of {STARTS} starts, median"
    return [
        Figure(what, 1000 * min(times), "ms", f"{how} {1000 * statistics.median(times):.1f}")
        for what, times in (
            ("Python itself", python), ("Python with udp2tls imported", imported),
            ("from the start to listening", listening), ("from the start to the first answer", answering),
        )
    ] + [Figure("the program after its first answer", min(resident) / 2**20, "MiB", "resident")]  # fmt: skip


def _silent(files: demo.Files, folder: Path) -> list[Figure]:
    """Have so many queries wait as to an upstream that has gone silent."""
    silent = threading.Event()

    def script(connection: scripted.Connection) -> None:
        for query in connection.queries():
            if not silent.is_set():
                connection.answer(query)

    context = scripted.context_for(files.server_file, files.server_file)
    with (
        scripted.Server(script, context) as server,
        Program(files, folder, [server.port], timeout=60) as program,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        silent.set()
        sock.connect(("127.0.0.1", program.port))
        for number in range(1, PENDING + 1):
            sock.send(material.query(number))
            while not number % 100 and program.unread:
                time.sleep(0.001)
        time.sleep(3)  # until it has found out
        now, most, heard = program.resident, program.most_resident, program.queries
        sock.setblocking(False)
        with suppress(BlockingIOError):
            raise RuntimeError(f"an answer came: {sock.recv(4096)!r}")
        if heard != PENDING + 1:
            raise RuntimeError(f"it has had {heard - 1} queries instead of {PENDING}")
    return [
        Figure(f"the program, {PENDING} queries pending", now / 2**20, "MiB",
               f"resident, upstream silent for 3 s, {server.accepted} connections; at most {most / 2**20:.1f}"),
    ]  # fmt: skip


def _tcp_clients(files: demo.Files, folder: Path, ports: Sequence[int]) -> list[Figure]:
    import resource  # Unix has it alone

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = TCP_CLIENTS + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted) if hard != resource.RLIM_INFINITY else wanted, hard))
    count = min(TCP_CLIENTS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    with ExitStack() as stack:
        empty, program = (stack.enter_context(Program(files, folder, ports)) for _ in range(2))
        before = program.resident
        asked = material.query(1)
        framed = len(asked).to_bytes(2, "big") + asked
        connected: list[socket.socket] = []
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", program.port), 5))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            sock.sendall(framed)
            sock.recv(4096)
            connected.append(sock)
        connected[0].sendall(framed)
        if not connected[0].recv(4096):
            raise RuntimeError(f"it does not keep {count} TCP clients")
        taken = program.resident - before
        alone, among = costs(empty, program)
    return [
        Figure("a TCP client that has asked once", taken / count, "bytes", f"resident, of {count}"),
        Figure("a lone query, no TCP clients", alone, "us", CHEAPEST),
        Figure(f"a lone query, {count} TCP clients", among, "us", CHEAPEST),
    ]


def _upstreams(files: demo.Files, folder: Path, ports: Sequence[int]) -> list[Figure]:
    """With "rotate" every upstream is connected to."""
    with Program(files, folder, ports[:1], "rotate") as one, Program(files, folder, ports, "rotate") as many:
        for program in (one, many):
            for _ in range(10):  # trials begin while queries flow
                program.ask(100)
                time.sleep(0.1)
        taken = many.resident - one.resident
        alone, among = costs(one, many)
    return [
        Figure("a connection to an upstream", taken / (len(ports) - 1), "bytes",
               f"resident, of {len(ports)}, TLS 1.3"),
        Figure("a lone query, one upstream", alone, "us", CHEAPEST),
        Figure(f"a lone query, {len(ports)} upstreams, rotate", among, "us", CHEAPEST),
    ]  # fmt: skip
