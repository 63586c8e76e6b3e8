"""Which TLS a section asks for: versions, ciphers, curves, and how strong all has to be.

udp2tls speaks TLS 1.2 and 1.3. A file that allows less is held to that; one that allows
nothing else can reach no server today, in stunnel neither, and is refused.
"""

from __future__ import annotations

import re
import ssl

from stunnel_compat import values
from stunnel_compat.given import VERSIONS, Given, Reading
from stunnel_compat.parser import shown
from stunnel_compat.service import Service

_TLS12, _TLS13 = values.VERSIONS["tlsv1.2"], values.VERSIONS["tlsv1.3"]


def versions(given: Given) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """Return the oldest and the newest version."""
    oldest = newest = 0  # no limit
    asking: Reading | None = None
    for reading in given.sequence(*VERSIONS):
        value = reading.value if isinstance(reading.value, int) else 0
        oldest = oldest if reading.key == "sslversionmax" else value
        newest = newest if reading.key == "sslversionmin" else value
        asking = reading
    if oldest and newest and newest < oldest:
        remedy = f"sslVersionMin must not be above sslVersionMax{_from(asking)}"
        given.mistake("Invalid protocol version range", remedy, asking)
        return ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    for reading, (name, bound) in given.pairs("config"):  # stunnel carries them out after all options
        if name in ("minprotocol", "maxprotocol") and isinstance(bound, int):
            oldest, newest = (bound, newest) if name == "minprotocol" else (oldest, bound)
            asking = reading
    low, high = max(oldest, _TLS12), newest or _TLS13
    forbidden = _options(given)
    if "NO_TLSV1_3" in forbidden:
        high, asking = min(high, _TLS12), forbidden["NO_TLSV1_3"]
    if "NO_TLSV1_2" in forbidden:
        low, asking = max(low, _TLS13), forbidden["NO_TLSV1_2"]
    if high < low:
        given.mistake(
            "neither TLS 1.2 nor TLS 1.3 is allowed, and udp2tls speaks nothing else",
            f"write sslVersion = TLSv1.2 or TLSv1.3, or remove the line{_from(asking)}; no DNS-over-TLS server "
            "needs less", asking,
        )  # fmt: skip
        return ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    if asking and oldest < _TLS12 and given.sequence(*VERSIONS):
        given.notes.append("TLS older than 1.2 is never spoken, whatever the file allows")
    return ssl.TLSVersion(low), ssl.TLSVersion(high)


def _from(reading: Reading | None) -> str:
    """Say where a default stands that applies to a section."""
    return f" ({reading.setting.name} = {shown(reading.setting.value)}, line {reading.setting.line})" if reading else ""


def flags(given: Given) -> int:
    """Return ssl.OP_... to be added to Python's defaults."""
    found = 0
    chosen = _options(given)
    if "NO_TICKET" in chosen:
        found |= ssl.OP_NO_TICKET
    if "CIPHER_SERVER_PREFERENCE" in chosen:
        found |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if "NO_RENEGOTIATION" in chosen or not given.flag("renegotiation", True):
        found |= ssl.OP_NO_RENEGOTIATION
    return found


def _options(given: Given) -> dict[str, Reading]:
    """Return what ``options`` sets; a cleared one stays cleared wherever it is set."""
    chosen = given.pairs("options")
    cleared = {name for _, (clear, name) in chosen if clear}
    return {str(name): reading for reading, (clear, name) in chosen if not clear and name not in cleared}


def ciphers(given: Given) -> tuple[str, int]:
    """Return the list for TLS 1.2 and the security level."""
    wanted, asking = Service.ciphers, given.last("ciphers")
    if asking:
        wanted = asking.setting.value
    for reading, (name, parameter) in given.pairs("config"):
        if name == "cipherstring":
            wanted, asking = str(parameter), reading
    level = given.number("securitylevel", Service.security_level)
    inside = re.findall("@SECLEVEL=([0-5])", wanted, re.ASCII)
    if inside:  # OpenSSL reads the list after stunnel has set the level
        level = int(inside[-1])
    if level < Service.security_level:
        given.warnings.append(f"security level {level} allows weak keys and ciphers; stunnel's default is 2")
    if asking:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(f"{wanted}:@SECLEVEL={level}" if wanted else "")
        except (ssl.SSLError, ValueError):
            remedy = "see: openssl ciphers -v LIST; or remove the line, the default is sound"
            given.errors.append(asking.setting.bad_value("no cipher match", remedy))
    return wanted, level


def curve(given: Given) -> str:
    """Return the only curve, by the name set_ecdh_curve knows, or nothing for the defaults."""
    found = given.parts("curves")
    return values.CURVES.get(found[0], "") if len(found) == 1 else ""
