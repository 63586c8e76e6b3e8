"""What ``--doctor`` prints: the clock, the listening addresses, and each upstream as a user should know it.

Owns the words and the lay-out; ``checkup`` does the work and ``identity`` reads the
certificates. Every problem ends with what to do. Lines are for terminals of 100 columns
and come out as soon as they are known, for a dead server takes seconds. An upstream is
usable when one of its addresses is, which is how forwarding uses it.
"""

from __future__ import annotations

import errno
import queue
import textwrap
import threading
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from _udp2tls import RELEASED, __version__, edns, identity, log, upstream, wire
from _udp2tls.checkup import Findings, Tools, examine, look, ms, options, words
from _udp2tls.codec import CertificateError, CodecError
from _udp2tls.config import BindError, Config, Endpoint, UpstreamSpec
from _udp2tls.identity import Certificate
from _udp2tls.tls import format_pin

WIDTH = 98
_LABEL = 14

# What to do when a step fails, where nothing better is known.
_REMEDIES = {
    "connect": "is the network up, the address right, and TCP port {port} open on the way? Many networks block port"
    " 853; try an upstream on another port or another network",
    "handshake": "does this port speak DNS over TLS? If it should, something on the way may interfere; look with:"
    " openssl s_client -connect {address} -servername {name}",
    "answer": "it was reached and authenticated, and then did not answer; if it wants to know who asks, give"
    " --client-cert, else choose another upstream",
}
_REFUSED_REMEDY = "nothing listens there: check address and port; 853 is the usual one for DNS over TLS"
_RCODE_REMEDIES = {
    "REFUSED": "it does not serve you, or not the root zone; ask its operator, or try a name it should know with"
    " --resolve NAME",
    "SERVFAIL": "it cannot resolve at the moment; if that lasts, choose another upstream",
}
_NO_CRYPTOGRAPHY = "for pins and the whole chain: pip install cryptography"


def run(config: Config, tools: Tools) -> int:
    """Print the report; return 0 when every upstream is usable and every listening address free, else 1."""
    upstreams = upstream.build(config)
    log.setup("warning")  # looking up a name at --bootstrap may have something to say
    tools.say(f"udp2tls {__version__} --doctor")
    _clock(tools)
    free = _listen(config, tools)
    ways = list({one.spec: one for one in upstreams}.values())  # DNSCrypt has two
    found = [_upstream(rank, one, tools) for rank, one in enumerate(ways, 1)]
    tools.say(
        f"\n{sum(found)} of {len(found)} upstreams usable; listening addresses "
        + ("free" if free else "NOT all free, see above")
    )
    return 0 if free and all(found) else 1


def _row(tools: Tools, label: str, text: str, indent: int = 4) -> None:
    first, rest = " " * indent + label.ljust(_LABEL), " " * (indent + _LABEL)
    for part in text.splitlines():
        # Options and pins are there to be pasted, and stay whole.
        tools.say(textwrap.fill(
            part.strip(), WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        ))  # fmt: skip
        first = rest


def _now(tools: Tools) -> datetime:
    return datetime.fromtimestamp(tools.wall(), UTC)


def _clock(tools: Tools) -> None:
    now = _now(tools)
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < datetime.fromisoformat(RELEASED).replace(tzinfo=UTC):
        said += (
            f", WRONG: this version was released on {RELEASED}. Certificates cannot be checked against a wrong"
            " clock; set it, e.g. sudo timedatectl set-ntp true"
        )
    else:
        said += f", plausible: this version is of {RELEASED}"
    _row(tools, "clock", said, 2)


def _listen(config: Config, tools: Tools) -> bool:
    """Bind and release every listening address; True when all could be had."""
    free = True
    for endpoint in config.listen:
        try:
            for sock in tools.bind(endpoint):
                sock.close()
            said = f"{endpoint} is free, UDP and TCP"
        except BindError as error:
            if config.listen_optional and error.no_such_address:
                said = f"{endpoint} is left out: this machine does not have the address"
            else:
                free, said = False, str(error)
                if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                    said += "\nif it is a udp2tls already running for you, all is as it should be"
        _row(tools, "listen", said, 2)
    return free


def _upstream(rank: int, one: upstream.Upstream, tools: Tools) -> bool:
    """Report on one upstream; True when it is usable."""
    spec = one.spec
    tools.say(f"\nupstream {rank}: {spec}")
    if spec.key:
        return _dnscrypt(spec, tools)
    addresses, reason = _addresses(spec, tools)
    if not addresses:
        to_do = (
            f"give the address, tls://ADDRESS#{spec.name}, or a resolver to ask: --bootstrap 9.9.9.9. If this"
            " machine's resolver is udp2tls itself, one of the two is needed"
        )
        _row(tools, "==>", f"NOT usable: no address for {spec.host}: {reason}\n{to_do}", 2)
        return False
    bad: list[tuple[str, str]] = []
    for address in addresses:
        why, to_do = _address(address, one, tools)
        if why:
            bad.append((why, to_do))
            if len(addresses) > 1:
                _row(tools, "==>", f"not usable here: {why}\n{to_do}")
    if len(bad) < len(addresses):
        some = f" at {len(addresses) - len(bad)} of {len(addresses)} addresses; see above for the others"
        _row(tools, "==>", f"usable{some if bad else ''}", 2)
        return True
    where = f" at any of its {len(addresses)} addresses. The first" if len(addresses) > 1 else ""
    _row(tools, "==>", f"NOT usable{where}: {bad[0][0]}\n{bad[0][1]}", 2)
    return False


def _dnscrypt(spec: UpstreamSpec, tools: Tools) -> bool:
    from _udp2tls import doctor_dnscrypt  # few have one

    tools.say(f"  {spec.relay or Endpoint(spec.host, spec.port)}")
    why, to_do = doctor_dnscrypt.report(spec, tools, lambda label, text, indent: _row(tools, label, text, indent))
    _row(tools, "==>", f"NOT usable: {why}\n{to_do}" if why else f"usable {to_do}".rstrip(), 2)
    return not why


def _addresses(spec: UpstreamSpec, tools: Tools) -> tuple[list[Endpoint], str]:
    if spec.literal:
        return [Endpoint(spec.host, spec.port)], ""
    # The system's resolver has no time limit of its own that could be asked for; a thread can be left behind.
    result: queue.SimpleQueue[tuple[list[str], str]] = queue.SimpleQueue()
    started = tools.clock()
    threading.Thread(target=lambda: result.put(tools.look_up(spec.host)), daemon=True).start()
    try:
        hosts, reason = result.get(timeout=2 * tools.patience)
    except queue.Empty:
        hosts, reason = [], f"no reply within {2 * tools.patience:g} s"
    said = f"{', '.join(hosts)}, looked up in {ms(tools.clock() - started)}" if hosts else f"none: {reason}"
    _row(tools, "addresses", said, 2)
    return [Endpoint(host, spec.port) for host in dict.fromkeys(hosts)], reason


def _address(address: Endpoint, one: upstream.Upstream, tools: Tools) -> tuple[str, str]:
    """Report on one address; return why it cannot be used and what to do, both empty when it can."""
    tools.say(f"  {address}")
    found = examine(address, one.session, tools)
    if found.step == "connect":
        why = f"cannot connect: {words(found.error or OSError(), tools.patience)}"
        to_do = _remedy(found, one.spec)
        _row(tools, "connect", f"FAILED: {why}")
        return why, to_do
    _row(tools, "connect", f"TCP in {ms(found.connect)}")
    if not found.authenticated:
        return _unauthenticated(found, one.spec, tools)
    about = found.about
    said = f"{about['version']}, {about['cipher']}, ALPN {about['alpn']}, handshake in {ms(found.handshake)}"
    _row(tools, "TLS", said)
    pins = f", and one of your {len(one.session.pins)} pins matches" if one.session.pins else ""
    if one.session.requirement:
        _row(tools, "identity", f"as the file asks: {one.session.requirement}{pins}")
    else:
        _row(tools, "identity", f"authenticated as {one.session.name}, by an authority you trust{pins}")
    yours = [format_pin(digest) for digest in one.session.pins]
    _certificates(identity.read(found.chain, found.leaf), tools, trusted=True, yours=yours)
    return _answer(found, one.spec, tools)


def _unauthenticated(found: Findings, spec: UpstreamSpec, tools: Tools) -> tuple[str, str]:
    error = found.error or OSError()
    why = words(error, tools.patience)
    if not isinstance(error, CertificateError):
        _row(tools, "TLS", f"FAILED: {why}")
        return f"no TLS: {why}", _remedy(found, spec)
    _row(tools, "identity", f"NOT authenticated: {why}")
    chain: list[Certificate] = []
    try:
        ders = look(found.address, spec.name, tools)
    except (CodecError, OSError) as second:
        _row(tools, "presented", f"unknown: a second look failed, {words(second, tools.patience)}")
    else:
        _row(tools, "presented", "NOT TRUSTED; seen in a second handshake without checks, closed without a query")
        chain = identity.read(ders, {})
        _certificates(chain, tools, trusted=False)
    return f"not authenticated: {why}", identity.remedy(error, spec, found.address, chain, _now(tools))


def _certificates(
    chain: Sequence[Certificate], tools: Tools, *, trusted: bool, yours: Collection[str] = ()
) -> None:  # fmt: skip
    for place, one in enumerate(chain):
        _row(tools, f"certificate {place + 1}", f"{identity.role(place, chain)}{'' if trusted else ', NOT TRUSTED'}")
        _row(tools, "subject", one.subject, 6)
        _row(tools, "issuer", one.issuer, 6)
        _row(tools, "valid", one.validity(_now(tools)), 6)
        if place == 0:
            _row(tools, "names", identity.names_in_words(one.names), 6)
        if one.pin:
            # Without the option before it nobody pins by habit what nobody has vouched for.
            note = " (you have it)" if one.pin in yours else ""
            _row(tools, "pin", f"--pin {one.pin}{note}" if trusted else f"{one.pin} (not trusted)", 6)
    if not any(one.pin for one in chain):
        _row(tools, "pins", _NO_CRYPTOGRAPHY)
    elif trusted:
        _row(tools, "pins", identity.pin_advice(chain))


def _answer(found: Findings, spec: UpstreamSpec, tools: Tools) -> tuple[str, str]:
    if not found.answer:
        why = f"no answer: {words(found.error or OSError(), tools.patience)}"
        _row(tools, "answer", f"FAILED: {why}")
        return why, _remedy(found, spec)
    try:
        seen = options(found.answer)
    except wire.Malformed as error:
        _row(tools, "answer", f"FAILED: {error}")
        return f"its answers are malformed: {error}", "choose another upstream, and tell its operator"
    _row(tools, "answer", f"{found.rcode} to the query for the root's NS, in {ms(found.round_trip)}")
    if said := seen.get(edns.EXTENDED_ERROR):
        text = identity.clean(said[2:].decode("utf-8", "replace"))
        _row(tools, "", f"the server adds: extended error {int.from_bytes(said[:2], 'big')} {text}")
    size = len(found.answer)
    _row(tools, "padding", f"yes, this answer to {size} bytes" if edns.PADDING in seen else
         "no: whoever watches sees the length of answers. Only the server can change that")  # fmt: skip
    _row(tools, "keepalive", _keepalive(seen.get(edns.KEEPALIVE)))
    _row(tools, "pipelining", found.pipelining)
    _row(tools, "resumption", found.resumption)
    if found.rcode not in ("NOERROR", "NXDOMAIN"):
        to_do = _RCODE_REMEDIES.get(found.rcode, "is it a resolver? Check the address and port")
        return f"it answers {found.rcode}", to_do
    return "", ""


def _keepalive(value: bytes | None) -> str:
    if value is None or len(value) != 2:
        return "not said; the server closes idle connections when it likes, and udp2tls connects again"
    seconds = int.from_bytes(value, "big") / 10
    return f"{seconds:g} s idle, as the server says" if seconds else "0: the server wants the connection closed at once"


def _remedy(found: Findings, spec: UpstreamSpec) -> str:
    if isinstance(found.error, ConnectionRefusedError):
        return _REFUSED_REMEDY
    return _REMEDIES[found.step].format(address=found.address, port=found.address.port, name=spec.name)
