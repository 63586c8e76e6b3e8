"""The command line: options, file and environment become one Config; then it is run.

Flags win over the file, the file over the environment, the environment over the
defaults. Exit status: 0 a clean stop, 1 a failure at run time, 2 bad configuration.
Nothing is bound or opened before the whole configuration has been read and checked.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from _udp2tls import __version__, config, daemon, in_environment, log, moderation, nssm, toml, upstream, workers
from _udp2tls.config import STRATEGIES, BindError, Config, ConfigError, UpstreamSpec
from _udp2tls.process import ProcessError

# What the predecessor dot_proxy asks when told nothing, and a name to hold it to.
DEFAULT_UPSTREAM = "tls://1.1.1.1#one.one.one.one"
DEMO_PORT = 5300

# Seconds at the start for the names in a stunnel.conf, which stunnel looks up before it
# listens: afterwards the system's resolver may be ourselves.
NAMES_LIMIT = 3.0

EXAMPLES = """\
examples:
  udp2tls -u tls://9.9.9.9#dns.quad9.net
        forward 127.0.0.1:53 and [::1]:53 to Quad9 over TLS
  udp2tls -l 127.0.0.1:5353 -u tls://9.9.9.9#dns.quad9.net -u tls://1.1.1.1
        an unprivileged port, and a second upstream for when the first fails
  udp2tls /etc/stunnel/stunnel.conf
        run the client sections of a stunnel.conf, over UDP and TCP (--check explains it)
  udp2tls --demo
        try everything on this machine alone: no network, no privileges

environment, for containers: HOST and PORT to listen on, DNS_HOST and DNS_PORT to
forward to. Flags win over the file, the file over the environment.
exit status: 0 stopped cleanly, 1 failed at run time, 2 bad configuration
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, remedy="see: udp2tls --help")


def parser() -> argparse.ArgumentParser:
    """Return the grammar."""
    p = _Parser(
        prog="udp2tls", description="A local DNS forwarder: asked over UDP and TCP, asks over TLS or DNSCrypt.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    p.add_argument("file", metavar="FILE", nargs="?",
                   help="a stunnel.conf, or a file ending in .toml with the names of these options")  # fmt: skip
    p.add_argument("-l", "--listen", metavar="ADDR[:PORT]", action="append",
                   help="serve UDP and TCP there; repeatable (default: 127.0.0.1:53 and [::1]:53)")  # fmt: skip
    p.add_argument("-u", "--upstream", metavar="tls://HOST[:853][#NAME]", action="append",
                   help="ask this resolver; NAME is what its certificate must carry (default: HOST). Or a DNS stamp, "
                        f"sdns://... Repeatable, in order of preference (default: {DEFAULT_UPSTREAM})")  # fmt: skip
    p.add_argument("--strategy", metavar="ordered|rotate|fastest",
                   help="with several upstreams: the first that works and back to it (default), each in turn, "
                        "or the one that answers fastest")  # fmt: skip
    p.add_argument("--ca-file", metavar="FILE", help="trust these certificates (PEM) instead of the system's")
    p.add_argument("--pin", metavar="sha256/BASE64", action="append",
                   help="also require this public key in the verified chain; repeatable, one must match")  # fmt: skip
    p.add_argument("--client-cert", metavar="FILE", help="certificate (PEM) to show to the upstream")
    p.add_argument("--client-key", metavar="FILE", help="its key, if not in the same file")
    p.add_argument("--bootstrap", metavar="ADDR[:PORT]", action="append",
                   help="look up host names of upstreams at this resolver, over TLS, its certificate "
                        "carrying ADDR (default: the system's resolver); repeatable")  # fmt: skip
    p.add_argument("--ephemeral-keys", action="store_true", default=None,
                   help="with DNSCrypt: a key pair of its own for each query, instead of one for an hour")  # fmt: skip
    p.add_argument("--allow", metavar="NET", action="append",
                   help="client network besides loopback, e.g. 192.168.0.0/16; repeatable")  # fmt: skip
    p.add_argument("--timeout", metavar="SECONDS", help="by when every query has an answer, or a SERVFAIL "
                   "that says why (default: 4)")  # fmt: skip
    p.add_argument("--moderation", metavar="auto|off|MICROSECONDS",
                   help="pause after each wake-up, so that queries come in batches: when it saves work (default), "
                        "never, or always for so long, at most 500")  # fmt: skip
    p.add_argument("--workers", metavar="N",
                   help=f"so many processes on each port, at most {workers.MOST} (default: 1); Linux")  # fmt: skip
    p.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (default: info)")
    p.add_argument("--log-queries", action="store_true", default=None, help="log names and clients")
    p.add_argument("--service", metavar="NAME", action="append",
                   help="run this section of a stunnel.conf; repeatable (default: all client sections)")  # fmt: skip
    p.add_argument("--strict", action="store_true", help="refuse a stunnel.conf that verifies no certificate")
    p.add_argument("--without-ocsp", action="store_true",
                   help="run a stunnel.conf that asks for OCSP, without it")  # fmt: skip
    p.add_argument("--check", action="store_true", help="read everything, print what it means, exit 0 or 2")
    p.add_argument("--list", action="store_true",
                   help="print the servers and relays of the lists that FILE names, exit")
    p.add_argument("--nssm", action="store_true",
                   help="print the commands that make a Windows service of it with these options")  # fmt: skip
    p.add_argument("--resolve", metavar="NAME[/TYPE]", help="ask one query, print the answer, exit")
    p.add_argument("--stamp", metavar="sdns://...|JSON|-",
                   help="print a DNS stamp as JSON, or the stamp that JSON (-: standard input) describes")  # fmt: skip
    p.add_argument("--doctor", action="store_true",
                   help="try every upstream and listening address, print what was found, exit 0 or 1")  # fmt: skip
    p.add_argument("--demo", action="store_true",
                   help="run an embedded resolver with a throwaway certificate, and forward to it")  # fmt: skip
    p.add_argument("--version", action="version", version=f"udp2tls {__version__}")
    return p


def read(options: argparse.Namespace, environment: Mapping[str, str]) -> Config:
    """Make one Config of options, file and environment; raise ConfigError."""
    file = toml.read(options.file) if options.file else toml.Table()
    notes: list[str] = []
    chosen: dict[str, Any] = {}

    def values(option: str) -> list[tuple[str, str]]:
        """Return [(value, where it came from)] of a repeatable option."""
        given = getattr(options, option)
        if given is not None:
            where = "--" + option.replace("_", "-")
            return [(value, where) for value in (given if isinstance(given, list) else [given])]
        return file.get(option, [])

    def value(option: str, default: str = "") -> tuple[str, str]:
        return (values(option) or [(default, "")])[-1]

    listen = tuple(config.parse_endpoint(text, where) for text, where in values("listen"))
    upstreams = given = tuple(config.parse_upstream(text, where) for text, where in values("upstream"))
    optional = not listen
    if not listen:
        listen, optional = in_environment.listen(environment)
    if file.document and options.upstream:
        notes.append("--upstream is given, so the servers and lists of the file are not used")
    elif file.document:
        from _udp2tls import choice  # few have lists, and everybody starts

        upstreams, chosen = choice.read(file.document, upstreams)
    if not upstreams:
        upstreams = in_environment.upstreams(environment, config.parse_upstream(DEFAULT_UPSTREAM))
        if not upstreams:
            notes.append(f"no upstream was named; using {DEFAULT_UPSTREAM}")
            upstreams = (config.parse_upstream(DEFAULT_UPSTREAM),)
    strategy, where = value("strategy", "ordered")
    if strategy not in STRATEGIES:
        raise ConfigError(f"{strategy!r} is none of {', '.join(STRATEGIES)}", where=where)
    level, where = value("log_level", "info")
    level = _level(level, where)
    ephemeral = value("ephemeral_keys")[0] in (True, "true")
    return Config(
        upstreams=upstreams,
        listen=listen,
        listen_optional=optional,
        ca_file=value("ca_file")[0],
        client_cert=value("client_cert")[0],
        client_key=value("client_key")[0],
        pins=frozenset(config.parse_pin(text, where) for text, where in values("pin")),
        bootstrap=tuple(_bootstrap(text, where) for text, where in values("bootstrap")),
        allow=tuple(config.parse_network(text, where) for text, where in values("allow")),
        timeout=_seconds(*value("timeout", "4")),
        strategy=strategy,
        ephemeral_keys=ephemeral,
        moderation=moderation.parse(*value("moderation", "auto")),
        workers=workers.parse(*value("workers", "1")),
        log_level=level,
        log_queries=value("log_queries", "")[0] in (True, "true"),
        notes=(*notes, *chosen.pop("notes", ())),
        warnings=(*config.doubts(given, upstreams, ephemeral=ephemeral), *chosen.pop("warnings", ())),
        **chosen,
    )


def _read_or_download(options: argparse.Namespace, forwarder_type: Any) -> Config:
    """Read the configuration; if nothing can be chosen for want of the first lists, download those. Blocks then."""
    try:
        return read(options, os.environ)
    except ConfigError as error:
        if not any(source.urls for source in getattr(error, "sources", ())):
            raise
        from _udp2tls import renewal  # once in the life of an installation

        anyone = argparse.Namespace(**vars(options) | {"upstream": [DEFAULT_UPSTREAM]})  # who is never asked
        return renewal.first_start(error, read(anyone, os.environ), forwarder_type, lambda: read(options, os.environ))


def _bootstrap(text: str, where: str) -> UpstreamSpec:
    endpoint = config.parse_endpoint(text, where, config.DOT_PORT)
    return UpstreamSpec(endpoint.host, endpoint.port, endpoint.host)


def _level(text: str, where: str) -> str:
    if text.lower() not in log.LEVELS:
        raise ConfigError(f"{text!r} is none of {', '.join(log.LEVELS)}", where=where)
    return text.lower()


def _seconds(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number of seconds", where=where) from None


def check(settings: Config) -> str:
    """Say what a configuration means. Raises ConfigError for files that cannot be used."""
    upstream.build(settings)
    lines = [f"listen    {endpoint} (UDP and TCP)" for endpoint in settings.listen]
    for number, spec in enumerate(settings.upstreams, 1):
        found = "" if spec.literal else ", address looked up " + (
            "over TLS at " + ", ".join(s.host for s in settings.bootstrap)
            if settings.bootstrap else "by the system's resolver"
        )  # fmt: skip
        found += ", its chain must match a hash of the stamp" if spec.hashes else ""
        whom = f"certificate must be for {spec.name}{found}"
        if spec.key:
            from _udp2tls import resolver  # few have one

            whom = resolver.describe(spec, found, ephemeral=settings.ephemeral_keys)
        lines.append(f"upstream  {number}. {spec.host} port {spec.port}, {whom}")
    if settings.choice:
        lines += settings.choice.lines
    if len(settings.upstreams) > 1:
        lines.append(f"strategy  {STRATEGIES[settings.strategy]}")
    if not all(spec.key for spec in settings.upstreams):
        lines.append(f"trust     {settings.ca_file or 'the system store'}; TLS 1.2 or 1.3, always verified")
    if settings.pins:
        lines.append(f"pins      {len(settings.pins)}; one must be in the verified chain")
    if settings.client_cert:
        lines.append(f"identity  {settings.client_cert}")
    allowed = ", ".join(map(str, settings.allow))
    lines.append(f"clients   this machine{' and ' + allowed if allowed else ' only'}")
    lines.append(f"timeout   {settings.timeout:g} s, then SERVFAIL with the reason")
    if settings.moderation is not None:
        pause = f"{settings.moderation * 1e6:.0f} us after each wake-up" if settings.moderation else "never"
        lines.append(f"pauses    {pause}")
    if settings.workers > 1:
        lines.append(workers.say(settings.workers))
    lines += [f"note      {note}" for note in settings.notes]
    lines += [f"warning   {warning}" for warning in settings.warnings]
    return "\n".join(lines)


def main(argv: Sequence[str], forwarder_type: Any) -> int:
    """Run the program; ``forwarder_type`` is the Forwarder class. Returns the exit status."""
    try:
        log.mend_streams()
        options = parser().parse_args(argv, argparse.Namespace(given=tuple(argv)))
        if options.stamp is not None:
            from _udp2tls import stamp_json

            print(stamp_json.convert(options.stamp, sys.stdin))
            return 0
        if options.demo:
            return _demo(options, forwarder_type)
        if options.file and not options.file.endswith(".toml"):
            return _stunnel(options, forwarder_type)
        for name in ("service", "strict", "without_ocsp"):
            if getattr(options, name):
                raise ConfigError(f"--{name.replace('_', '-')} goes with a stunnel.conf")
        if options.list:
            from _udp2tls import listing

            print(listing.show(options.file))
            return 0
        if options.check or options.nssm:
            said = check(read(options, os.environ))
            if options.nssm:
                return _print_service(options.given)
            print(said)
            return 0
        settings = _read_or_download(options, forwarder_type)
        if options.doctor:
            return int(forwarder_type.doctor(settings))
        if options.resolve is not None:
            return _resolve(options.resolve, settings, forwarder_type)
        log.setup(settings.log_level)
        return workers.serve(forwarder_type, [settings], lambda: [read(options, os.environ)])
    except ConfigError as error:
        print(f"udp2tls: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BindError, ProcessError) as error:
        print(f"udp2tls: {error}", file=sys.stderr)
        return 1


# What a stunnel.conf says itself, and what is for upstreams that it cannot name.
_STUNNEL_SAYS = (
    "listen", "upstream", "strategy", "ca_file", "pin", "client_cert", "client_key", "bootstrap", "ephemeral_keys",
)  # fmt: skip


def _stunnel(options: argparse.Namespace, forwarder_type: Any) -> int:
    """Run a stunnel.conf, or say what it means."""
    for name in _STUNNEL_SAYS:
        if getattr(options, name):
            raise ConfigError(f"--{name.replace('_', '-')} does not go with a stunnel.conf, which says that itself")
    settings: dict[str, Any] = {}
    if options.allow:
        settings["allow"] = tuple(config.parse_network(text) for text in options.allow)
    if options.timeout:
        settings["timeout"] = _seconds(options.timeout, "--timeout")
    if options.moderation:
        settings["moderation"] = moderation.parse(options.moderation)
    if options.workers:
        settings["workers"] = workers.parse(options.workers)
    if options.log_queries:
        settings["log_queries"] = True
    if options.log_level:
        settings["log_level"] = _level(options.log_level, "--log-level")

    def adopt() -> Any:
        return forwarder_type.stunnel(
            options.file, wanted=options.service or (), strict=options.strict,
            without_ocsp=options.without_ocsp, **settings,
        )  # fmt: skip

    adopted = adopt()
    if options.check:
        print(adopted.explain())
        if settings.get("workers", 1) > 1:
            print(workers.say(settings["workers"]))
        if adopted.refused:
            return 2
        adopted.configs()  # the files it names may not be what they should
        return 0
    if options.nssm:
        adopted.configs()
        return _print_service(options.given)
    configs = adopted.configs()
    if options.doctor:
        return max(int(forwarder_type.doctor(one)) for one in configs)
    if options.resolve is not None:
        return _resolve(options.resolve, configs[0], forwarder_type)
    about = adopted.process
    try:
        log.setup(configs[0].log_level, about.output, overwrite=about.overwrite)
    except OSError as error:
        raise ConfigError(f"output: cannot write {about.output}: {error.strerror}") from error
    for note in about.notes:
        log.note(note)
    return workers.serve(forwarder_type, configs, lambda: adopt().configs(), about, NAMES_LIMIT)


def _print_service(argv: Sequence[str]) -> int:
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "udp2tls.py")
    print(nssm.commands(sys.executable, script, os.getcwd(), [one for one in argv if one != "--nssm"], os.environ))
    return 0


def _resolve(text: str, settings: Config, forwarder_type: Any) -> int:
    name, _, kind = text.partition("/")
    try:
        import dnslib
    except ImportError:
        raise ConfigError("--resolve needs the package dnslib", remedy="pip install dnslib") from None
    try:
        query = dnslib.DNSRecord.question(name, (kind or "A").upper())
        query.add_ar(dnslib.EDNS0(udp_len=1232))
        message = query.pack()
    except (dnslib.DNSError, ValueError) as error:
        raise ConfigError(f"cannot ask for this: {error}", text=text, where="--resolve") from None
    log.setup(settings.log_level if settings.log_level != "info" else "warning")
    forwarder = forwarder_type(settings)
    try:
        answer = dnslib.DNSRecord.parse(forwarder.ask(message))
    except dnslib.DNSError as error:
        print(f"udp2tls: the answer cannot be read: {error}", file=sys.stderr)
        return 1
    finally:
        forwarder.close()
    print(answer.toZone())
    return 0 if answer.header.rcode in (0, 3) else 1


def _demo(options: argparse.Namespace, forwarder_type: Any) -> int:
    from _udp2tls import demo

    if options.workers:
        raise ConfigError("--workers does not go with --demo, which is one process")
    with tempfile.TemporaryDirectory(prefix="udp2tls-demo-") as folder:
        made = demo.certificates(folder)
        options.ca_file, options.file = made.ca_file, None
        options.listen = options.listen or [f"127.0.0.1:{DEMO_PORT}"]
        resolver, port = forwarder_type.open_demo_listener()
        options.upstream = [f"tls://127.0.0.1:{port}#{demo.NAME}"]
        settings = read(options, {})
        log.setup(settings.log_level)
        forwarder = forwarder_type(settings)
        forwarder.clients.listen_tcp(resolver, False, demo.codec_factory(made), demo.answer)
        return daemon.serve(forwarder, ready=forwarder_type.start_demo_client)
