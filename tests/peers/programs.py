"""Real programs on loopback: DNS servers that speak DNS over TLS, the forwarder, dig and its kin.

Every program gets a folder and a port of its own, writes its own log there, is waited for
by asking it, and is ended by its own process id.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import pytest

from tests import authority
from tests.peers import asking

CHECKOUT = Path(__file__).parents[2]
ZONE = "test.example"
# Below the range the kernel takes ports for outgoing connections from, so that none is lost
# between a look and its use, or while its server is down.
PORTS = range(15000, 32000)

TEXT = "udp2tls peers"
LARGE = tuple(f"{number:03d} " + "x" * 196 for number in range(20))  # 4 KB of text
ODD_NAME = r"a\000b.test.example"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def find(program: str) -> str:
    """Return where ``program`` is. Without it the test is skipped, but fails where CI is set."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        _missing(program)
    return path


def _missing(program: str) -> NoReturn:
    said = f"{program} is not installed"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def free_port() -> int:
    """Return a port that is free for TCP and UDP, on IPv4 and IPv6."""
    for _ in range(100):
        port = random.choice(PORTS)
        try:
            for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(family, kind) as sock:
                        sock.bind((host, port))
        except OSError:
            continue
        return port
    raise AssertionError("no free port in 100 tries")


class Program:
    """A program that runs while the ``with`` block does. ``ready`` says whether it serves."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, port: int, ready: Callable[[Program], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.port = port
        self.command = list(command)
        self.log_file = folder / f"{name}.log"
        self._folder = folder
        self._ready = ready
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it serves; bounded."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        for _ in range(300):
            if not self.alive:
                break
            if self._ready(self):
                return
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{self.name} does not serve:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _serves_tls(ca_file: str) -> Callable[[Program], bool]:
    def ready(program: Program) -> bool:
        message = asking.make_query(f"n1.{ZONE}")
        try:
            return asking.is_right(message, asking.ask_tls(program.port, message, ca_file, authority.NAME, timeout=5))
        except (OSError, ssl.SSLError):
            return False

    return ready


def _strings(texts: Sequence[str]) -> str:
    return " ".join(f'"{text}"' for text in texts)


def _records(*, wildcards: bool) -> list[tuple[str, str]]:
    """Return what every server here knows, as (name, the rest of a zone file's line)."""
    records = [
        (f"www.{ZONE}", "A 192.0.2.1"),
        (f"www.{ZONE}", "AAAA 2001:db8::1"),
        (f"www.{ZONE}", f'TXT "{TEXT}"'),
        (f"www.{ZONE}", "HTTPS 1 . alpn=h2"),
        (f"large.{ZONE}", f"TXT {_strings(LARGE)}"),
        (ODD_NAME, "A 192.0.2.1"),
    ]
    for digit in range(10):
        records.append((f"n{digit}.{ZONE}", f"A 192.0.2.{digit}"))
        if wildcards:
            records.append((f"*.n{digit}.{ZONE}", f"A 192.0.2.{digit}"))
    return records


def unbound(certs: authority.Authority, folder: Path, port: int = 0) -> Program:
    """Unbound as a DoT server with local data."""
    port = port or free_port()
    lines = [
        "server:", f"directory: {folder}", 'chroot: ""', 'username: ""', 'pidfile: ""', "do-daemonize: no",
        "use-syslog: no", 'logfile: ""', "verbosity: 1", "num-threads: 1", 'module-config: "iterator"',
        f"interface: 127.0.0.1@{port}", f"interface: ::1@{port}", f"tls-port: {port}",
        f"tls-service-key: {certs.server_key}", f"tls-service-pem: {certs.server_cert}",
        "access-control: 127.0.0.0/8 allow", "access-control: ::1 allow",
        "pad-responses: yes", "edns-tcp-keepalive: yes", "incoming-num-tcp: 100",
        f"local-zone: {ZONE}. static",
    ]  # fmt: skip
    lines += [f"local-zone: n{digit}.{ZONE}. redirect" for digit in range(10)]
    lines += [f"local-data: '{name}. {rest}'" for name, rest in _records(wildcards=False)]
    lines += ["remote-control:", "control-enable: no", ""]
    file = folder / "unbound.conf"
    file.write_text("\n".join(lines))
    return Program("unbound", [find("unbound"), "-d", "-c", str(file)], folder, port, _serves_tls(certs.ca_file))


def named(certs: authority.Authority, folder: Path, port: int = 0) -> Program:
    """BIND as a DoT server, authoritative for a signed zone."""
    port = port or free_port()
    zone = folder / "zone"
    lines = ["$TTL 60", f"@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 3600 600 86400 60", f"@ NS ns.{ZONE}."]
    lines += [f"ns.{ZONE}. A 127.0.0.1", *(f"{name}. {rest}" for name, rest in _records(wildcards=True)), ""]
    zone.write_text("\n".join(lines))
    for flags in ([], ["-f", "KSK"]):
        _run([find("dnssec-keygen"), "-q", "-a", "ECDSAP256SHA256", *flags, "-n", "ZONE", ZONE], folder)
    _run([find("dnssec-signzone"), "-S", "-o", ZONE, "-f", "zone.signed", "zone"], folder)
    file = folder / "named.conf"
    file.write_text(f"""
        tls dot {{ cert-file "{certs.server_cert}"; key-file "{certs.server_key}"; }};
        options {{
            directory "{folder}"; managed-keys-directory "{folder}"; session-keyfile "{folder}/session.key";
            pid-file none; lock-file none; recursion no; dnssec-validation no; notify no;
            check-names primary ignore; tcp-clients 1000;
            listen-on port {port} tls dot {{ 127.0.0.1; }};
            listen-on-v6 port {port} tls dot {{ ::1; }};
        }};
        controls {{ }};
        zone "{ZONE}" {{ type primary; file "zone.signed"; }};
    """)
    command = [find("named"), "-g", "-n", "1", "-c", str(file)]
    return Program("named", command, folder, port, _serves_tls(certs.ca_file))


def dnsdist(certs: authority.Authority, folder: Path, port: int = 0) -> Program:
    """Dnsdist as a DoT server that makes up its answers itself; ``drop.test.example`` makes it hang up."""
    port = port or free_port()
    files = f'"{certs.server_cert}", "{certs.server_key}"'
    text = "".join(f"\\{len(part):03d}{part}" for part in LARGE)
    lines = [
        'setACL({"127.0.0.0/8", "::1/128"})', 'setSecurityPollSuffix("")', "setTCPRecvTimeout(60)",
        *(f'addTLSLocal("{at}:{port}", {files}, {{provider="openssl", maxInFlight=2000}})'
          for at in ("127.0.0.1", "[::1]")),
        *(f'addAction("n{digit}.{ZONE}", SpoofAction("192.0.2.{digit}"))' for digit in range(10)),
        f'odd = newDNSName("{ODD_NAME}")'.replace("\\", "\\\\"),
        'addAction(QNameRule(odd:toString()), SpoofAction("192.0.2.1"))',
        f'addAction(QNameRule("drop.{ZONE}"), DropAction())',
        f'addAction(QNameRule("nothing.{ZONE}"), RCodeAction(DNSRCode.NXDOMAIN))',
        f'addAction(AndRule{{QNameRule("large.{ZONE}"), QTypeRule(16)}}, SpoofRawAction("{text}"))',
        f'addAction(AndRule{{QNameRule("www.{ZONE}"), QTypeRule(16)}}, SpoofRawAction("\\{len(TEXT):03d}{TEXT}"))',
        f'addAction(AndRule{{QNameRule("www.{ZONE}"), QTypeRule(65)}}, '
        r'SpoofRawAction("\000\001\000\000\001\000\003\002h2"))',
        f'addAction("{ZONE}", SpoofAction({{"192.0.2.1", "2001:db8::1"}}))',
        # Without a server behind it, it would drop the rest and hang up.
        "addAction(AllRule(), RCodeAction(DNSRCode.REFUSED))", "",
    ]  # fmt: skip
    file = folder / "dnsdist.conf"
    file.write_text("\n".join(lines))
    command = [find("dnsdist"), "--supervised", "--disable-syslog", "-C", str(file)]
    return Program("dnsdist", command, folder, port, _serves_tls(certs.ca_file))


SERVERS: dict[str, Callable[[authority.Authority, Path], Program]] = {
    "unbound": unbound, "named": named, "dnsdist": dnsdist,
}  # fmt: skip


def dnsmasq(folder: Path, backend: int) -> Program:
    """dnsmasq before a plain DNS server on port ``backend``; on a TCP connection it works on one query at a time."""
    port = free_port()
    command = [
        find("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=",
        f"--user={getpass.getuser()}", "--log-facility=-", f"--port={port}", "--listen-address=127.0.0.1",
        "--bind-interfaces", "--cache-size=0", f"--server=127.0.0.1#{backend}",
    ]  # fmt: skip

    def ready(program: Program) -> bool:
        with contextlib.suppress(OSError):
            return bool(asking.ask_tcp(program.port, asking.make_query(f"n1.{ZONE}"), timeout=2))
        return False

    return Program("dnsmasq", command, folder, port, ready)


def stunnel_before(server: int, certs: authority.Authority, folder: Path) -> Program:
    """stunnel as others use it: TLS for a plain DNS server on port ``server``."""
    port = free_port()
    file = folder / "server.conf"
    file.write_text(
        f"foreground = yes\npid =\nsyslog = no\n[dot]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{server}\n"
        f"cert = {certs.server_cert}\nkey = {certs.server_key}\n"
    )
    return Program("stunnel", [find("stunnel4"), str(file)], folder, port, _serves_tls(certs.ca_file))


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def upstream(port: int, host: str = "127.0.0.1", name: str = authority.NAME) -> list[str]:
    """Return the options for one upstream."""
    return ["--upstream", f"tls://{f'[{host}]' if ':' in host else host}:{port}#{name}"]


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without what would configure the forwarder or Python."""
    unwanted = ("HOST", "PORT", "DNS_HOST", "DNS_PORT")
    kept = {k: v for k, v in os.environ.items() if k not in unwanted and not k.startswith("PYTHON")}
    return kept | more


def command_line(*options: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
    # In a run in the shape of Windows (tests/shape.py) the forwarder has it as well.
    wrapper = [str(CHECKOUT / "tests" / "shape.py")] if "UDP2TLS_SHAPE" in os.environ else []
    return [*python, *wrapper, str(CHECKOUT / "udp2tls.py"), *options]


def forwarder(
    folder: Path, *options: str, host: str = "127.0.0.1", port: int = 0, python: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None, listen: bool = True,
) -> Program:  # fmt: skip
    """Return the forwarder from this checkout, on a free loopback port."""
    port = port or free_port()
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = command_line(*(["--listen", shown] if listen else []), *options, python=python)
    said = f"listening on {shown},"
    environment = clean_environment() if environment is None else environment
    return Program("udp2tls", command, folder, port, lambda program: said in program.log, environment)


def run_forwarder(
    *options: str, environment: Mapping[str, str] | None = None, python: Sequence[str] = (sys.executable,)
) -> subprocess.CompletedProcess[str]:
    """Run the forwarder for a job that ends."""
    return subprocess.run(
        command_line(*options, python=python), env=clean_environment() if environment is None else environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def dig(port: int, *arguments: str, host: str = "127.0.0.1") -> str:
    """Return what dig prints; it asks once and waits longer than any answer may take."""
    return _ask_with(
        ["dig", "-r", "-p", str(port), f"@{host}", "+tries=1", f"+timeout={asking.PATIENCE:.0f}", *arguments]
    )


def kdig(port: int, *arguments: str, host: str = "127.0.0.1") -> str:
    """Return what kdig prints."""
    return _ask_with(["kdig", f"@{host}", "-p", str(port), "+retry=0", f"+timeout={asking.PATIENCE:.0f}", *arguments])


def _ask_with(command: list[str]) -> str:
    environment = clean_environment(LC_ALL="C")
    done = subprocess.run(
        [find(command[0]), *command[1:]], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
