"""What a whole stunnel.conf asks for: the process, and the services to run.

Every line is read against the table, and reading goes on behind each mistake. Stunnel
runs no file with a mistake in it, whichever section it is in. No server section is run
here: unless the user names the sections to run, a file with one is refused, because
passing over it would break the user's server silently.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from _udp2tls.config import ConfigError
from _udp2tls.process import Process
from stunnel_compat import section, values
from stunnel_compat.addresses import System
from stunnel_compat.given import Given, Outcome, Reading
from stunnel_compat.options import BY_KEY, GLOBAL, HONOURED, IGNORED, REFUSED, SERVICE
from stunnel_compat.parser import File, Section, Setting, lower, shown
from stunnel_compat.service import Service

# emerg, alert, crit and err; warning; notice (the default) and info; debug
LOG_LEVELS = ("error", "error", "error", "error", "warning", "info", "info", "debug")


@dataclass(frozen=True)
class Meaning:
    """Everything there is to say about a file; ``outcomes`` are its sections, ``defaults`` what precedes them."""

    file: File
    process: Process
    defaults: Outcome
    outcomes: tuple[Outcome, ...]
    errors: tuple[ConfigError, ...]  # each once, in stunnel's order
    warnings: tuple[str, ...]  # about the file; ``process.notes`` are too, the services have their own

    @property
    def services(self) -> tuple[Service, ...]:
        """What is to be run: nothing of a file with a mistake in it."""
        return () if self.errors else tuple(outcome.service for outcome in self.outcomes if outcome.service)

    def check(self) -> None:
        """Raise the first mistake, saying how many there are."""
        if not self.errors:
            return
        first, *others = self.errors
        remedy = first.remedy
        if others:
            count = f"{len(others)} more mistake{'s' if len(others) > 1 else ''}"
            remedy += f"\n  ({count}; udp2tls --check {shown(self.file.path)} shows all)"
        raise ConfigError(first.problem, text=first.text, span=first.span, where=first.where, remedy=remedy)


def interpret(
    file: File, system: System, *, wanted: Sequence[str] = (), without_ocsp: bool = False, strict: bool = False
) -> Meaning:
    """Return what a file means. Raises nothing: its mistakes are in ``errors``, and see ``check``.

    ``wanted``: run these sections alone. ``without_ocsp``: warn where the file asks for a
    revocation check by OCSP, else refuse. ``strict``: refuse services that verify nothing.
    """
    defaults = Outcome(file.defaults)
    _read(defaults, system, before=True)
    outcomes = [Outcome(one) for one in file.sections]
    inherited = [reading for reading in defaults.readings if reading.option.level == SERVICE]
    warnings: list[str] = []
    errors = _selection(file, wanted)
    process = _process(defaults, warnings)
    errors += defaults.errors
    for outcome in outcomes:
        if wanted and outcome.section.name not in wanted:
            outcome.skipped = "not named by --service"
            outcome.errors += [line for line in outcome.section.lines if isinstance(line, ConfigError)]
        else:
            outcome.misread |= defaults.misread
            _section(outcome, inherited, system, without_ocsp, strict, file)
        defaults.used |= outcome.used
        errors += outcome.errors
    errors += _taken(outcomes)
    if not file.sections:
        errors.append(_no_sections(defaults))
    return Meaning(file, process, defaults, tuple(outcomes), _each_once(errors), tuple(warnings))


def _each_once(errors: list[ConfigError]) -> tuple[ConfigError, ...]:
    """A mistake in a default is met in every section."""
    found: dict[tuple[str, str], ConfigError] = {}
    for error in errors:
        found.setdefault((error.where, error.problem), error)
    return tuple(found.values())


def _read(outcome: Outcome, system: System, *, before: bool) -> None:
    """Read the lines of a section, or those ``before`` the first, against the table."""
    for line in outcome.section.lines:
        if isinstance(line, ConfigError):
            outcome.errors.append(line)
            continue
        option = BY_KEY.get(line.key)
        if option is None:
            outcome.errors.append(line.bad_name("Specified option name is not valid here", _meant(line)))
            continue
        if option.level == GLOBAL and not before:
            remedy = f"{option.name} is a global option: write it before the first [section]"
            outcome.errors.append(line.bad_name("Specified option name is not valid here", remedy))
            continue
        read = values.global_debug if before and line.key == "debug" else option.read
        try:
            outcome.readings.append(Reading(line, option, read(line.value)))
        except values.Bad as bad:
            outcome.errors.append(line.bad_value(bad.problem, bad.remedy, bad.part))
            outcome.misread.add(lower(option.name))
            continue
        knows, words = {"setuid": (system.knows_user, "UID"), "setgid": (system.knows_group, "GID")}.get(
            line.key, (None, "")
        )
        if knows and values.integer(line.value) is None and not knows(line.value):
            remedy = "create it, or name another, or remove the line to stay who starts udp2tls"
            outcome.errors.append(line.bad_value(f"Illegal {words}", remedy))


def _meant(line: Setting) -> str:
    near = difflib.get_close_matches(line.key, BY_KEY, 1, 0.75)
    hint = f"did you mean {BY_KEY[near[0]].name}? " if near else ""
    return f"{hint}stunnel knows no option of this name; remove or correct the line"


def _process(defaults: Outcome, warnings: list[str]) -> Process:
    """Return what the lines before the first section ask of the process."""
    given = {reading.key: reading for reading in defaults.readings if reading.option.level != SERVICE}
    defaults.used.update(id(reading.setting) for reading in given.values())
    notes = []
    for reading in given.values():
        treatment, why, remedy = reading.treatment
        setting = reading.setting
        if treatment == REFUSED:
            defaults.errors.append(setting.bad_value(f"{setting.name} is not supported: {why}", remedy))
        elif treatment == IGNORED:
            notes.append(f"{setting.name} = {shown(setting.value)} is ignored: {why}")
        if treatment == HONOURED and setting.suspicion:
            warnings.append(f"{setting.where}: {setting.name}: {setting.suspicion}")

    def text(key: str) -> str:
        return given[key].setting.value if key in given else ""

    level = given["debug"].value if "debug" in given else 5
    if "." in text("debug"):
        notes.append("debug: the facility is ignored, it is syslog's")
    if text("foreground").lower() not in ("yes", "quiet"):
        notes.append("udp2tls stays in the foreground, as systemd and nssm want it; stunnel would go to the background")
    if given.get("log") and not text("output"):
        notes.append("log is ignored: there is no output")
    return Process(
        log_level=LOG_LEVELS[level if isinstance(level, int) else 5], output=text("output"),
        overwrite=text("log").lower() == "overwrite", pid=text("pid"), setuid=text("setuid"), setgid=text("setgid"),
        chroot=text("chroot"), notes=tuple(notes),
    )  # fmt: skip


def _selection(file: File, wanted: Sequence[str]) -> list[ConfigError]:
    names = [one.name for one in file.sections]
    unknown = [name for name in wanted if name not in names]
    known = ", ".join(shown(name) for name in dict.fromkeys(names)) or "none"
    return [
        ConfigError(
            f"there is no section [{shown(name)}] in {shown(file.path)}", where="--service",
            remedy=f"its sections are: {known}",
        )
        for name in unknown
    ]  # fmt: skip


def _section(
    outcome: Outcome, inherited: list[Reading], system: System, without_ocsp: bool, strict: bool, file: File
) -> None:
    """Fill in what became of one section."""
    _read(outcome, system, before=False)
    given = Given(outcome, [*inherited, *outcome.readings])
    if not given.flag("client", "client" in outcome.misread):
        outcome.server = True
        outcome.errors[:] = [_server(outcome.section, file, inherited)]  # what else is wrong does not matter
        return
    for reading in outcome.readings:
        if reading.option.level != SERVICE:
            why = {"debug": "the log has one level, that before the first section"}.get(reading.key, "")
            why = why or "it is for Unix sockets" if reading.key.startswith("set") else why or reading.option.why
            outcome.treatments[id(reading.setting)] = (IGNORED, why, "")
            given.notes.append(f"{reading.setting.name} = {shown(reading.setting.value)} is ignored here: {why}")
    given.counting = [reading for reading in given.counting if reading.option.level == SERVICE]
    outcome.service = section.service(given, system, without_ocsp=without_ocsp, strict=strict)


def _server(one: Section, file: File, inherited: list[Reading]) -> ConfigError:
    clients = [other.name for other in file.sections if _is_client(other, inherited)]
    if clients:
        flags = " ".join(f"--service '{shown(name)}'" for name in dict.fromkeys(clients))
        remedy = f"run the client sections alone, with {flags}, and leave this one to stunnel.\n  "
    else:
        remedy = "leave the file to stunnel; udp2tls serves no TLS. "
    remedy += "If it is meant to be a client, add a line: client = yes"
    return one.mistake("a server section (client = no, which is the default), and udp2tls is a client", remedy)


def _is_client(one: Section, inherited: list[Reading]) -> bool:
    given = [reading.setting for reading in inherited if reading.key == "client"]
    given += [line for line in one.lines if isinstance(line, Setting) and line.key == "client"]
    return bool(given) and given[-1].value.lower() == "yes"


def _taken(outcomes: list[Outcome]) -> list[ConfigError]:
    """Take away what an earlier service listens on; a service with nothing left is an error, as in stunnel."""
    owners: dict[object, str] = {}
    errors = []
    for outcome in outcomes:
        if not outcome.service:
            continue
        name = outcome.service.name
        free = tuple(endpoint for endpoint in outcome.service.accept if endpoint not in owners or not endpoint.port)
        lost = [endpoint for endpoint in outcome.service.accept if endpoint not in free]
        for endpoint in free:
            owners[endpoint] = name
        if lost and not free:
            remedy = f"service [{owners[lost[0]]}] listens on {lost[0]} already; give this one another accept"
            error = outcome.section.mistake("", remedy)
            problem = f"Binding service [{name}] failed"
            outcome.errors.append(
                ConfigError(problem, text=error.text, span=error.span, where=error.where, remedy=remedy)
            )
            errors += outcome.errors
            outcome.service = None
        elif lost:
            warning = f"{lost[0]} is left out, service [{owners[lost[0]]}] listens on it already"
            outcome.service = replace(
                outcome.service, accept=free, warnings=(*outcome.service.warnings, warning)
            )  # fmt: skip
    return errors


def _no_sections(defaults: Outcome) -> ConfigError:
    """Without a section stunnel serves one client on its standard input."""
    given = {reading.key: reading for reading in defaults.readings}
    where = shown(defaults.section.file)
    if "accept" in given:
        setting = given["accept"].setting
        return ConfigError(
            "Inetd mode: 'accept' option is only allowed in a [section]", text=setting.text, where=setting.where,
            span=(setting.name_at, setting.name_at + len(setting.name)),
            remedy="write [dns] on a line of its own above the service's options",
        )  # fmt: skip
    if "client" not in given or not given["client"].value:
        return ConfigError(
            "Inetd mode: TLS server needs a certificate", where=where,
            remedy="there is no [section] in the file: write [dns], and below it client, accept and connect",
        )  # fmt: skip
    return ConfigError(
        "Inetd mode: there is no [section], and udp2tls serves no single client on its standard input", where=where,
        remedy="write [dns], and below it accept = 127.0.0.1:53",
    )  # fmt: skip
