"""What ``--check`` says of a stunnel.conf: line by line, and how to do without the file.

Every line is listed as honoured, ignored or refused, with the reason; a line that a later
one outdoes says by which. Behind each service stands the nearest command line of udp2tls
and in what it differs, so that a user can leave stunnel.conf behind. All mistakes come
last, each with its line, caret and remedy: that is where the eye of a reader ends.
"""

from __future__ import annotations

import re
import shlex
import ssl
from collections.abc import Iterator

from _udp2tls import config
from _udp2tls.config import ConfigError
from _udp2tls.process import Process
from stunnel_compat.given import Outcome, Reading
from stunnel_compat.meaning import Meaning
from stunnel_compat.options import REFUSED
from stunnel_compat.parser import Setting, shown
from stunnel_compat.service import Service, Target

OUTDONE, WRONG = "outdone", "wrong"
# Where OpenSSL's own store is found; a CApath there is what udp2tls trusts without --ca-file.
SYSTEM_STORES = {"/etc/ssl/certs", "/etc/ssl/certs/", "/etc/pki/tls/certs"}


def explain(meaning: Meaning) -> str:
    """Return the report; the caller decides on the exit status by ``meaning.errors``."""
    lines = [_headline(meaning), ""]
    wrong = {error.where for error in meaning.errors}
    if meaning.defaults.section.lines:
        lines += ["before the first section", *_settings(meaning.defaults, wrong)]
        lines += [f"  warning   {warning}" for warning in meaning.warnings]
        lines += [f"  note      {note}" for note in meaning.process.notes if " is ignored: " not in note]
        lines.append("")
    for outcome in meaning.outcomes:
        lines += [*_section(outcome, meaning, wrong), ""]
    if meaning.errors:
        lines.append("mistakes and refusals:" if len(meaning.errors) > 1 else "why it is refused:")
        for error in meaning.errors:
            lines += ["", *(f"  {line}".rstrip() for line in str(error).split("\n"))]
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def _headline(meaning: Meaning) -> str:
    path, count = shown(meaning.file.path), len(meaning.errors)
    if count:
        return f"{path}: refused, {count} mistake{'s' if count > 1 else ''} or refusal{'s' if count > 1 else ''}"
    names = ", ".join(f"[{service.name}]" for service in meaning.services)
    return f"{path}: runs {names or 'nothing'}"


def _settings(outcome: Outcome, wrong: set[str]) -> Iterator[str]:
    """List every line, those that could not be read too."""
    readings = {id(reading.setting): reading for reading in outcome.readings}
    for line in outcome.section.lines:
        reading = readings.get(id(line))
        treatment, why = _treatment(outcome, reading)[:2] if reading else (WRONG, "see below")
        if line.where in wrong and treatment != REFUSED:
            treatment, why = WRONG, "see below"
        said = f"{line.name} = {shown(line.value)}" if isinstance(line, Setting) else line.text.strip()
        why = _for_value(why, line.value) if isinstance(line, Setting) else why
        yield f"  {treatment:<9} {said.strip()}{f'  ({why})' if why else ''}"


def _for_value(why: str, value: str) -> str:
    """Pick what is said of this value: "yes: this; no: that" has several, "yes: this" says nothing of no."""
    meanings = dict(part.split(": ", 1) for part in why.split("; ") if re.match(r"(yes|no|rr|prio): ", part))
    return meanings.get(value.strip().lower(), "asks for nothing") if meanings else why


def _treatment(outcome: Outcome, reading: Reading) -> tuple[str, str, str]:
    key = id(reading.setting)
    if key in outcome.treatments:
        return outcome.treatments[key]
    counts = not outcome.used or key in outcome.used
    if not counts:
        later = [r.setting for r in outcome.readings if r.key == reading.key and id(r.setting) in outcome.used]
        return OUTDONE, f"by line {later[-1].line}" if later else "by every section, or none reads it", ""
    return reading.treatment


def _section(outcome: Outcome, meaning: Meaning, wrong: set[str]) -> Iterator[str]:
    section = outcome.section
    if outcome.skipped:
        yield f"[{shown(section.name)}]  {shown(section.where)}: not run, {outcome.skipped}"
        return
    yield f"[{shown(section.name)}]  {shown(section.where)}{': refused, see below' if outcome.errors else ''}"
    if outcome.server:
        return
    yield from _settings(outcome, wrong)
    service = outcome.service
    for warning in service.warnings if service else outcome.warnings:
        yield f"  warning   {warning}"
    for note in service.notes if service else outcome.notes:
        if " is ignored" not in note:  # said with its line
            yield f"  note      {note}"
    if not service:
        return
    words, differences = command(service)
    if meaning.process.log_level != Process().log_level:
        words += ["--log-level", meaning.process.log_level]
    yield "  without stunnel.conf:"
    yield f"    {shlex.join(words)}"
    for difference in differences:
        yield f"    differs: {difference}"


def command(service: Service) -> tuple[list[str], list[str]]:
    """Return the nearest command line of udp2tls, and in what it differs from the file."""
    words, differences = ["udp2tls"], []
    for endpoint in service.accept:
        words += ["-l", str(endpoint)]
    if not all(endpoint.loopback for endpoint in service.accept):
        words += ["--allow", "192.168.0.0/16"]
        differences.append("--allow must name your clients' networks; stunnel answers everybody")
    name, said = _name(service)
    differences += said
    for target in service.connect:
        upstream = _upstream(target, name)
        if upstream:
            words += ["-u", upstream]
        else:
            differences.append(f"{shown(target.host)} cannot be written in a URL")
    if service.rotate and len(service.connect) > 1:
        words += ["--strategy", "rotate"]
    words += _files(service, differences)
    differences += _beyond(service)
    return words, differences


def _name(service: Service) -> tuple[str, list[str]]:
    """Return the one name to hold the certificate to, and what is lost with it."""
    checks = service.checks
    names = [name for name in (*checks.hosts, *checks.addresses) if _upstream(Target("192.0.2.1", 853), name)]
    lost = [name for name in (*checks.hosts, *checks.addresses, *checks.emails) if name not in names[:1]]
    differences = []
    if not (checks.chain or checks.peer):
        differences.append("udp2tls always verifies chain and name; this file verifies nothing")
    elif not checks.subject:
        differences.append("udp2tls also verifies that the certificate is for the host; this file does not")
    elif lost:
        count = "one name alone" if names else "no such name"
        differences.append(f"a command line can say {count}, so not {', '.join(map(shown, lost))}")
    if checks.peer:
        alone = "" if checks.chain else ", which verifyPeer alone does not ask for"
        differences.append(f"udp2tls verifies the chain{alone}; the nearest to a pinned certificate is --pin")
    return names[0] if names else "", differences


def _upstream(target: Target, name: str) -> str:
    """Return the URL, or nothing when it cannot be said in one."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    try:
        return str(config.parse_upstream(f"tls://{host}:{target.port}#{name or target.host}"))
    except ConfigError:
        return ""


def _files(service: Service, differences: list[str]) -> list[str]:
    checks, words = service.checks, []
    if checks.ca_file and (checks.chain or checks.peer):
        words += ["--ca-file", shown(checks.ca_file)]
    if checks.ca_path and (checks.chain or checks.peer):
        if checks.ca_path in SYSTEM_STORES and not checks.ca_file:
            differences.append(f"the system's store is trusted, which {checks.ca_path} mostly is")
        else:
            differences.append(f"the certificates in {shown(checks.ca_path)} need to be in one --ca-file")
    if checks.crl_file or checks.crl_path:
        differences.append("there is no option for revocation lists")
    if service.cert:
        words += ["--client-cert", shown(service.cert)]
        words += ["--client-key", shown(service.key)] if service.key and service.key != service.cert else []
    return words


def _beyond(service: Service) -> Iterator[str]:
    """Name what the command line has no options for."""
    unlike = {
        "sni": service.sni is not None and service.sni not in service.checks.hosts,
        "ciphers": service.ciphers != Service.ciphers,
        "ciphersuites": bool(service.ciphersuites),
        "securityLevel": service.security_level != Service.security_level,
        "curves": bool(service.curve),
        "the versions of TLS": (service.oldest, service.newest) != (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        "NO_TICKET": bool(service.flags & ssl.OP_NO_TICKET),
        "sessionResume": not service.resume,
        "delay": service.delay,
        "local": bool(service.local),
        "socket": bool(service.socket_options),
        "the time limits": (service.connect_limit, service.handshake_limit, service.idle_limit)
        != (Service.connect_limit, Service.handshake_limit, Service.idle_limit),
    }  # fmt: skip
    lost = [name for name, differs in unlike.items() if differs]
    if lost:
        yield f"there is no option for {', '.join(lost)}"
