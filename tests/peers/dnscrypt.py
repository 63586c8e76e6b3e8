"""dnsdist as a real DNSCrypt server on loopback, UDP and TCP on one port.

It makes its keys and certificates itself, by its own functions, the first time it starts;
a restart keeps them. The console rotates them while it runs. Its answers are those of the
other servers here, so ``asking.is_right`` judges them; names under ``late.test.example``
are left to ``late.Late``, if there is one, which answers out of order.

What it does differently from others (measured, 1.7.3): certificates over UDP only; it drops
UDP queries under 256 bytes, closes a TCP connection for anything it cannot open or drops,
pads answers by up to 256 bytes more than the query has, and without ``in_flight`` answers
one query of a TCP connection after the other.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.peers import asking, late, programs, sdns
from tests.peers.background import Address
from tests.peers.programs import ZONE

PROVIDER = "2.dnscrypt-cert.test.example"
XSALSA20, XCHACHA20 = 1, 2


class DnsCrypt(programs.Program):
    """Serves while the ``with`` block runs. ``stamp`` holds ``address``, ``provider`` and ``provider_key``."""

    def __init__(
        self, folder: Path, port: int = 0, *, es_versions: Sequence[int] = (XSALSA20, XCHACHA20),
        host: str = "127.0.0.1", provider: str = PROVIDER, in_flight: int = 0, begins: int = -3600,
        lifetime: int = 86400, idle_limit: int = 2, backend: int = 0,
    ) -> None:  # fmt: skip
        """Times are in seconds; ``begins`` and ``lifetime``, the certificates', from now on.

        ``in_flight``: queries at once on a TCP connection, out of order; 0: one at a time.
        ``backend``: the port of ``late.Late``.
        """
        port = port or programs.free_port()
        self.host, self.provider = host, provider
        self.es_versions = tuple(es_versions)
        self.serial = len(self.es_versions)  # the newest certificate's
        self._active = dict(zip(range(1, self.serial + 1), self.es_versions))  # serial: es_version
        self._lifetime = lifetime
        self._console = _another_port(port)
        self._key = base64.b64encode(os.urandom(32)).decode()
        self._file = folder / "dnscrypt.conf"
        now = int(time.time())
        self._file.write_text("\n".join([
            'setACL({"127.0.0.0/8", "::1/128"})', 'setSecurityPollSuffix("")', f"setTCPRecvTimeout({idle_limit})",
            f'setKey("{self._key}")', f'controlSocket("127.0.0.1:{self._console}")',
            *self._keys(now + begins, now + lifetime), *self._bind(port, in_flight), *_answers(backend), "",
        ]))  # fmt: skip
        command = [programs.find("dnsdist"), "--supervised", "--disable-syslog", "-C", str(self._file)]
        super().__init__("dnscrypt", command, folder, port, _shows_certificates)

    def _keys(self, begins: int, ends: int) -> list[str]:
        """Return what makes the provider's key and a certificate for each es_version, unless they are there."""
        lines = ['local there = io.open("provider.key")', "if there then there:close() else"]
        lines += ['generateDNSCryptProviderKeys("provider.pub", "provider.key")']
        lines += [
            f'generateDNSCryptCertificate("provider.key", "{serial}.cert", "{serial}.key", {serial}, {begins}, {ends}, '
            f"DNSCryptExchangeVersion.VERSION{version})"
            for serial, version in self._active.items()
        ]
        return [*lines, "end"]

    def _bind(self, port: int, in_flight: int) -> list[str]:
        certificates, keys = (
            "{" + ", ".join(f'"{serial}.{kind}"' for serial in self._active) + "}" for kind in ("cert", "key")
        )
        at = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        options = f"{{maxInFlight={in_flight}}}" if in_flight else "{}"
        return [f'addDNSCryptBind("{at}", "{self.provider}", {certificates}, {keys}, {options})']

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def stamp(self) -> str:
        return sdns.dnscrypt(self.address, self.provider_key, self.provider)

    @property
    def provider_key(self) -> bytes:
        """The provider's public key, 32 bytes; there is one since it first ran."""
        return (self._folder / "provider.pub").read_bytes()

    def console(self, command: str) -> str:
        """Return what dnsdist's console prints for a command in Lua."""
        done = subprocess.run(
            [self.command[0], "-C", str(self._file), "-c", f"127.0.0.1:{self._console}", "-e", command],
            cwd=self._folder, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "rror" not in said, said
        return done.stdout

    def rotate(self, *, keep: bool = True, es_versions: Sequence[int] = (), lifetime: int = 0) -> int:
        """Make a new key and certificate for each es_version, show these alone, and return the newest serial.

        ``keep`` False: the old keys are gone at once, as with a server that was set up anew;
        else it knows them still. Without ``es_versions`` they are the same as now. A restart
        forgets all this.
        """
        now = int(time.time())
        old, self._active = self._active, {}
        for version in es_versions or old.values():
            self.serial += 1
            self._active[self.serial] = version
            self._on_bind(
                f'generateAndLoadInMemoryCertificate("provider.key", {self.serial}, {now - 60}, '
                f"{now + (lifetime or self._lifetime)}, DNSCryptExchangeVersion.VERSION{version})"
            )
        for serial in old:
            self._on_bind(f"markInactive({serial})")
            if not keep:
                self._on_bind(f"removeInactiveCertificate({serial})")
        return self.serial

    def _on_bind(self, call: str) -> None:
        self.console(f"getDNSCryptBind(0):{call}")

    def clients(self) -> set[str]:
        """Return the addresses whose sealed queries it opened, as it remembers them."""
        return set(re.findall(r"^\s*\d+\s+([0-9a-f.:]+)\s", self.console("topClients(100)"), re.MULTILINE))


def _another_port(port: int) -> int:
    while (other := programs.free_port()) == port:
        pass
    return other


def _shows_certificates(program: programs.Program) -> bool:
    assert isinstance(program, DnsCrypt)
    message = asking.make_query(program.provider, asking.TXT)
    try:
        answer = asking.ask_udp(program.port, message, program.host, timeout=1)
        return any(b"DNSC" in record.data[:5] for record in asking.records_of(answer))
    except OSError:
        return False


def _answers(backend: int) -> list[str]:
    """Return dnsdist's rules: what ``programs.dnsdist`` answers, and what is left to the backend."""
    text = "".join(f"\\{len(part):03d}{part}" for part in programs.LARGE)
    lines = []
    if backend:
        server = f'{{address="127.0.0.1:{backend}", pool="late", maxInFlight=100}}'
        lines += [f"newServer({server}):setUp()", f'addAction("{late.ZONE}", PoolAction("late"))']
    return [
        *lines,
        *(f'addAction("n{digit}.{ZONE}", SpoofAction("192.0.2.{digit}"))' for digit in range(10)),
        f'addAction(QNameRule("drop.{ZONE}"), DropAction())',
        f'addAction(QNameRule("nothing.{ZONE}"), RCodeAction(DNSRCode.NXDOMAIN))',
        'addAction(QTypeRule(2), RCodeAction(0))',  # the root's servers, which forwarders ask for to see who lives
        f'addAction(AndRule{{QNameRule("large.{ZONE}"), QTypeRule(16)}}, SpoofRawAction("{text}"))',
        f'addAction(AndRule{{QNameRule("www.{ZONE}"), QTypeRule(16)}}, '
        f'SpoofRawAction("\\{len(programs.TEXT):03d}{programs.TEXT}"))',
        f'addAction(AndRule{{QNameRule("www.{ZONE}"), QTypeRule(65)}}, '
        r'SpoofRawAction("\000\001\000\000\001\000\003\002h2"))',
        f'addAction("{ZONE}", SpoofAction({{"192.0.2.1", "2001:db8::1"}}))',
        "addAction(AllRule(), RCodeAction(DNSRCode.REFUSED))",
    ]
