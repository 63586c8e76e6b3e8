"""One upstream: its addresses, its session, what was learned about it; it makes codecs.

What is learned outlives connections and lives here: the TLS ticket, the idle limit the
server asked for, which address worked last, and for each address when it may be tried
again. Decides nothing: which upstream is used when is ``delivery``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from random import Random

from _udp2tls import tls
from _udp2tls.codec import Codec
from _udp2tls.config import Config, ConfigError, Endpoint, UpstreamSpec
from _udp2tls.framing import Framing

# After a failure an address rests 0.1 s, then twice as long each time, up to 2 s: an
# upstream that comes back is found within a client's patience (about 5 s).
FIRST_REST, LONGEST_REST = 0.1, 2.0


@dataclass
class Health:
    """How one address has behaved: failures in a row, and when it may be tried again."""

    failures: int = 0
    retry_at: float = 0.0

    def fail(self, now: float, random: Random) -> None:
        """Rest: exponential, and by up to half shorter at random so that clients do not march in step."""
        rest = min(LONGEST_REST, FIRST_REST * 2 ** min(self.failures, 16))
        self.retry_at = now + rest * (0.5 + random.random() / 2)
        self.failures += 1


class Upstream:
    """See the file's docstring. ``addresses`` is empty until a host name was looked up."""

    def __init__(self, spec: UpstreamSpec, session: tls.Session) -> None:
        self.spec = spec
        self.session = session
        self.addresses: list[Endpoint] = [Endpoint(spec.host, spec.port)] if spec.literal else []
        self.health: dict[Endpoint, Health] = {}
        self.idle_limit = 0.0  # seconds, asked for by the server (RFC 7828); 0: unknown
        self.reason = ""  # why it failed last
        self.looking_up = False
        self.lookup = Health()

    def __str__(self) -> str:
        return str(self.spec)

    def codec(self) -> Codec:
        """Begin one connection's worth of protocol."""
        return tls.Tls.client(Framing(), self.session)

    def health_of(self, address: Endpoint) -> Health:
        return self.health.setdefault(address, Health())

    def found(self, hosts: list[str]) -> None:
        """Take the result of a look-up; families alternate, IPv6 first (RFC 8305 section 4)."""
        six = [host for host in hosts if ":" in host]
        four = [host for host in hosts if ":" not in host]
        order = [host for pair in zip(six, four) for host in pair]
        order += six[len(four) :] + four[len(six) :]
        self.addresses = [Endpoint(host, self.spec.port) for host in order]
        self.health = {a: self.health[a] for a in self.addresses if a in self.health}

    def prefer(self, address: Endpoint) -> None:
        """Remember the address that worked: it is tried first next time."""
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.insert(0, address)


def build(config: Config) -> list[Upstream]:
    """Make the configured upstreams; they share one TLS context. Raises ConfigError."""
    if config.pins:
        _require("cryptography", "--pin")
    if config.bootstrap:
        _require("dnslib", "--bootstrap")
    return _build(config, config.upstreams, config.pins)


def build_bootstrap(config: Config) -> list[Upstream]:
    """Make the upstreams that only look up other upstreams' names. Pins are not theirs."""
    return _build(config, config.bootstrap, frozenset())


def _require(package: str, option: str) -> None:
    """Better now than with the first connection."""
    if find_spec(package) is None:
        raise ConfigError(f"needs the package {package}", where=option, remedy=f"pip install {package}")


def _build(config: Config, specs: tuple[UpstreamSpec, ...], pins: frozenset[bytes]) -> list[Upstream]:
    context = tls.client_context(config.ca_file, config.client_cert, config.client_key)
    return [Upstream(spec, tls.Session(context, spec.name, pins)) for spec in specs]
