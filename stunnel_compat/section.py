"""One client section becomes a Service: what its settings mean together.

Errors are in stunnel's words where it has any, at the line they are about. An address that
is wrong among right ones is left out with a warning, because stunnel runs such a file; a
section of which nothing is left is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from _udp2tls.config import ConfigError, Endpoint
from stunnel_compat import addresses, strength, values
from stunnel_compat.addresses import System
from stunnel_compat.given import VERIFYING, Given, Reading
from stunnel_compat.options import HONOURED, IGNORED, OCSP_OPTIONS, REFUSED
from stunnel_compat.parser import lower, shown
from stunnel_compat.service import Checks, Service, Target

HANDSHAKE_LIMIT = 10.0  # stunnel's 300 s are useless for DNS
SHORTEST_LIMIT = 1.0

_T = TypeVar("_T")

_LEVELS = {"SO": "SOL_SOCKET", "TCP": "IPPROTO_TCP", "IP": "IPPROTO_IP", "IPV6": "IPPROTO_IPV6"}


def service(given: Given, system: System, *, without_ocsp: bool, strict: bool) -> Service | None:
    """Return what the section asks for, or None when ``given.errors`` has something."""
    _vet(given, without_ocsp)
    accept, connect = _endpoints(given, system)
    checks = _checks(given)
    if not given.outcome.misread.intersection(VERIFYING):
        _judge(given, checks, strict)
    oldest, newest = strength.versions(given)
    ciphers, level = strength.ciphers(given)
    cert, key = _identity(given)
    local = _each(given, "local", addresses.local, system)
    delay = given.flag("delay", False)
    socket_options = _socket_options(given, system)
    connect_limit = _seconds(given, "timeoutconnect", Service.connect_limit)
    handshake_limit = min(HANDSHAKE_LIMIT, _seconds(given, "timeoutbusy", HANDSHAKE_LIMIT))
    idle_limit = _seconds(given, "timeoutidle", Service.idle_limit)
    if given.errors:
        return None
    return Service(
        name=shown(given.section.name), where=given.section.where, accept=accept, connect=connect, checks=checks,
        cert=cert, key=key, sni=_sni(given), oldest=oldest, newest=newest, flags=strength.flags(given),
        ciphers=ciphers, security_level=level, curve=strength.curve(given),
        ciphersuites=":".join(given.parts("ciphersuites")), resume=given.flag("sessionresume", True),
        rotate=lower(given.text("failover")) == "rr" and not delay, delay=delay, local=local[-1] if local else "",
        connect_limit=connect_limit, handshake_limit=handshake_limit, idle_limit=idle_limit,
        socket_options=socket_options, warnings=tuple(given.warnings), notes=tuple(given.notes),
    )  # fmt: skip


def _vet(given: Given, without_ocsp: bool) -> None:
    """Refuse what the table refuses, and say what it ignores."""
    for reading in given.counting:
        setting = reading.setting
        treatment, why, remedy = reading.treatment
        if treatment == REFUSED and reading.key in OCSP_OPTIONS and without_ocsp:
            given.warnings.append(f"{setting.name}: no responder is asked, as --without-ocsp wishes")
            given.outcome.treatments[id(setting)] = (IGNORED, "as --without-ocsp wishes; revoked would pass", "")
        elif treatment == REFUSED:
            words = why if why.startswith('"') else f"{setting.name} is not supported: {why}"
            if reading.key == "protocol":
                words = _protocol(setting.value, words)
            given.errors.append(setting.bad_value(words, remedy))
        elif treatment == IGNORED:
            given.notes.append(f"{setting.name} = {shown(setting.value)} is ignored: {why}")
        if treatment != REFUSED and reading.key not in ("accept", "connect", "ciphers") and setting.suspicion:
            given.warnings.append(f"{setting.where}: {setting.name}: {setting.suspicion}")


def _protocol(value: str, words: str) -> str:
    known = ("socks", "cifs", "pgsql", "smtp", "pop3", "imap", "nntp", "ldap", "connect", "capwin", "capwinctrl")
    if lower(value) == "proxy":
        return "The configured protocol is not supported in the client mode"
    return words if lower(value) in known else "Protocol not supported"


def _endpoints(given: Given, system: System) -> tuple[tuple[Endpoint, ...], tuple[Target, ...]]:
    for key, example in ("accept", "accept = 127.0.0.1:53"), ("connect", "connect = 9.9.9.9:853"):
        if not given.last(key):
            given.mistake("Each service must define two endpoints", f"there is no {key}; add a line: {example}")
    accept = [endpoint for group in _each(given, "accept", addresses.accept, system) for endpoint in group]
    connect = _each(given, "connect", addresses.connect, system)
    return tuple(dict.fromkeys(accept)), tuple(dict.fromkeys(connect))


def _each(given: Given, key: str, read: Callable[[str, System], _T], system: System) -> list[_T]:
    """Read every address of an option."""
    found: list[_T] = []
    wrong: list[tuple[Reading, values.Bad]] = []
    for reading in given.all(key):
        try:
            found.append(read(reading.setting.value, system))
        except values.Bad as error:
            wrong.append((reading, error))
    for reading, bad in wrong:
        shown_at = reading.setting.bad_value(bad.problem, bad.remedy, bad.part)
        if not found or isinstance(bad, addresses.Never):
            given.errors.append(shown_at)
        else:
            setting, remedy = reading.setting, " ".join(shown_at.remedy.split())
            said = f"{setting.where}: {setting.name} = {shown(setting.value)} is left out, as stunnel does"
            given.warnings.append(f"{said}: {bad.problem}; {remedy}")
            given.outcome.treatments[id(reading.setting)] = (IGNORED, f"left out, as stunnel does: {bad.problem}", "")
    return found


def _checks(given: Given) -> Checks:
    chain = peer = False
    asking: Reading | None = None
    for reading in given.sequence(*VERIFYING):
        if reading.key == "verify" and isinstance(reading.value, int):
            chain, peer = 1 <= reading.value <= 3, reading.value >= 3
        elif reading.key == "verifychain":
            chain = bool(reading.value)
        else:
            peer = bool(reading.value)
        asking = reading if reading.value else asking
    hosts, ips, emails = (given.all(key) for key in ("checkhost", "checkip", "checkemail"))
    for reading in (*hosts, *ips, *emails):
        if not reading.setting.value:
            given.warnings.append(f"{reading.setting.where}: an empty {reading.setting.name} matches no certificate")
    trusted = any(given.text(key) for key in ("cafile", "capath", "caengine", "castore"))
    if (chain or peer) and not trusted:
        given.mistake(
            'Either "CAengine", "CAfile" or "CApath" has to be configured',
            "add CAfile = FILE (PEM), or CApath = DIRECTORY with hash links; stunnel never uses the\n"
            "  system's store by itself. On Debian that is CApath = /etc/ssl/certs", asking,
        )  # fmt: skip
    return Checks(
        chain, peer, _texts(hosts), _texts(ips), _texts(emails), given.text("cafile"), given.text("capath"),
        given.text("crlfile"), given.text("crlpath"),
    )  # fmt: skip


def _texts(readings: list[Reading]) -> tuple[str, ...]:
    return tuple(reading.setting.value for reading in readings)


def _judge(given: Given, checks: Checks, strict: bool) -> None:
    """Refuse what proves nothing; warn of what lets strangers in, or refuse that too."""
    names = given.sequence("checkhost", "checkip", "checkemail")
    if names and not (checks.chain or checks.peer):
        given.mistake(
            'Either "verifyChain" or "verifyPeer" has to be enabled',
            "a check of names alone proves nothing: add verifyChain = yes and CAfile = FILE, or remove "
            f"{names[0].option.name}", names[0],
        )  # fmt: skip
    name = f"Service [{shown(given.section.name)}]"
    if not (checks.chain or checks.peer):
        problem = "needs authentication to prevent MITM attacks"
        given.warnings.append(f"{name} {problem}")
        if strict and not checks.subject:
            remedy = "add verifyChain = yes, CAfile = FILE and checkHost = NAME, or run without --strict"
            error = given.section.mistake("", remedy)
            given.errors.append(
                ConfigError(f"{name} {problem}", text=error.text, span=error.span, where=error.where, remedy=remedy)
            )
    elif checks.chain and not checks.peer and not checks.subject:
        given.warnings.append(f'{name} uses "verifyChain" without subject checks')
    if (checks.crl_file or checks.crl_path) and not checks.chain:
        given.notes.append("CRLfile and CRLpath have no effect without verifyChain, as in stunnel")


def _identity(given: Given) -> tuple[str, str]:
    """Return the client's certificate and its key."""
    cert, key = given.last("cert"), given.last("key")
    if key and not cert:
        given.notes.append("key is ignored, as in stunnel: there is no cert")
        return "", ""
    for reading in (cert, key):
        if reading is None:
            continue
        setting = reading.setting
        if not setting.value:
            problem, remedy = "the value is empty", "name a PEM file, or remove the line"
        elif lower(setting.value).endswith((".p12", ".pfx")):
            problem = "a PKCS#12 file, which Python's ssl cannot read"
            remedy = f"convert it: openssl pkcs12 -nodes -in {shown(setting.value)} -out client.pem"
        elif lower(setting.value).startswith("pkcs11:"):
            problem, remedy = "a token, which Python's ssl cannot use", "name a PEM file"
        else:
            continue
        given.errors.append(setting.bad_value(f"{setting.name}: {problem}", remedy))
    return given.text("cert"), given.text("key")


def _sni(given: Given) -> str | None:
    """None is stunnel's default: the host of the first connect."""
    if given.last("sni"):
        return given.text("sni")
    if given.last("protocolhost"):
        return given.text("protocolhost").rpartition(":")[0] or "localhost"
    return None


def _seconds(given: Given, key: str, default: float) -> float:
    """Read a limit. Below zero stunnel waits for ever, and with zero it gives up at once."""
    reading = given.last(key)
    seconds = given.number(key, int(default))
    if not reading:
        return default
    if seconds < 0:
        given.notes.append(f"{reading.setting.name} = {seconds} is no limit in stunnel; {default:g} s are used")
        return default
    if key == "timeoutbusy" and seconds > HANDSHAKE_LIMIT:
        cut = f"cut to {HANDSHAKE_LIMIT:g} s: no DNS client waits longer"
        given.notes.append(f"{reading.setting.name} = {seconds} is {cut}")
    if not seconds:
        given.warnings.append(f"{reading.setting.name} = 0 would never work; {SHORTEST_LIMIT:g} s are used")
    return max(SHORTEST_LIMIT, float(seconds))


def _socket_options(given: Given, system: System) -> tuple[tuple[str, int, int, int], ...]:
    """Return (side, level, option, value); a later line of the same side and option outdoes an earlier one."""
    found: dict[tuple[str, str], tuple[str, int, int, int]] = {}
    for reading in given.all("socket"):
        if not isinstance(reading.value, tuple) or reading.treatment[0] != HONOURED:
            continue
        side, name, value = reading.value
        level = system.constant(_LEVELS[name.partition("_")[0]])
        constant = system.constant(name)
        if level is None or constant is None:
            problem = f"Illegal socket option: this system does not know {name}"
            given.errors.append(reading.setting.bad_value(problem, "remove the line"))
        else:
            found[side, name] = (side, level, constant, value)
    return tuple(found.values())
