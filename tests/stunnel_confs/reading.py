"""What the tests of stunnel_compat share: an operating system that is the same everywhere."""

from __future__ import annotations

from pathlib import Path

from stunnel_compat import meaning, parser
from stunnel_compat.addresses import System
from stunnel_compat.meaning import Meaning
from stunnel_compat.service import Service

HERE = Path(__file__).parent
SHARED = HERE.parent.parent.parent / "shared"

PORTS = {"domain": 53, "domain-s": 853}
HOSTS = {"localhost": ["127.0.0.1", "::1", "127.0.0.1"], "nothing.example": [], "odd.example": ["?"]}
CONSTANTS = {
    "SOL_SOCKET": 1, "IPPROTO_TCP": 6, "IPPROTO_IP": 0, "TCP_NODELAY": 1, "SO_KEEPALIVE": 9, "SO_RCVBUF": 8, "IP_TTL": 2
}  # fmt: skip


def _port(name: str) -> int:
    if name not in PORTS:
        raise OSError("service/proto not found")
    return PORTS[name]


def _host(name: str) -> list[str]:
    if name not in HOSTS:
        raise OSError("Name or service not known")
    return HOSTS[name]


SYSTEM = System(_port, _host, CONSTANTS.get, lambda name: name != "nobody-here", lambda name: name != "nobody-here")

GOOD = "client = yes\naccept = 127.0.0.1:53\nconnect = 192.0.2.1:853\n"


def of(text: str, *wanted: str, without_ocsp: bool = False, strict: bool = False) -> Meaning:
    """Return what a file of this text means."""
    file = parser.parse(text.encode("utf-8", "surrogateescape"), "f.conf")
    return meaning.interpret(file, SYSTEM, wanted=wanted, without_ocsp=without_ocsp, strict=strict)


def service(lines: str, before: str = "", *, without_ocsp: bool = False) -> Service:
    """Return the service of a good section with more lines."""
    made = of(f"{before}\n[dns]\n{GOOD}{lines}\n", without_ocsp=without_ocsp)
    assert not made.errors, "\n".join(map(str, made.errors))
    return made.services[0]


def problems(lines: str, before: str = "") -> list[str]:
    """Return what is wrong with a good section with more lines: the first line of each error."""
    made = of(f"{before}\n[dns]\n{GOOD}{lines}\n")
    assert bool(made.errors) != bool(made.services)
    return [str(error).split("\n")[0].partition(": ")[2] for error in made.errors]
