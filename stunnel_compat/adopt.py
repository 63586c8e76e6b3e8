"""A stunnel.conf becomes configurations of udp2tls, one for each client section.

Brings the rooms together: ``parser`` and ``options`` say what the file means, ``verify``
makes the TLS sessions, and the operating system's part is handed in. What is asked of the
process as a whole (log, pid file, user) comes besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from _udp2tls import config, log, process
from _udp2tls.config import Config, ConfigError, UpstreamSpec
from _udp2tls.process import Process
from stunnel_compat import explain, meaning, parser
from stunnel_compat.addresses import System
from stunnel_compat.meaning import Meaning
from stunnel_compat.service import Service, Target
from stunnel_compat.verify import Verifier

EVERYBODY = tuple(map(config.parse_network, ("0.0.0.0/0", "::/0")))


class Adopted:
    """A file, read. ``system`` is the module that knows the operating system.

    ``wanted``: the sections to run, all client sections when empty. ``strict`` refuses
    services without verification, ``without_ocsp`` takes a wish for OCSP for a warning.
    """

    def __init__(
        self, path: str, system: Any, *, wanted: Sequence[str] = (), strict: bool = False, without_ocsp: bool = False,
        **settings: Any,
    ) -> None:  # fmt: skip
        asked = System(
            resolve_port=system.port_of, resolve_host=system.addresses_of, constant=system.constant,
            knows_user=lambda name: _known(process.user_id, name),
            knows_group=lambda name: _known(process.group_id, name),
        )  # fmt: skip
        self.path = path
        self._settings = settings
        self.meaning: Meaning = meaning.interpret(
            parser.read(path), asked, wanted=wanted, strict=strict, without_ocsp=without_ocsp
        )  # fmt: skip

    @property
    def refused(self) -> bool:
        """True when the file has mistakes, or asks for what cannot be had."""
        return bool(self.meaning.errors)

    def explain(self) -> str:
        """Say for each section what is honoured, ignored and refused."""
        return explain.explain(self.meaning)

    @property
    def process(self) -> Process:
        return self.meaning.process

    def configs(self) -> list[Config]:
        """Return a configuration for each service; raises ConfigError for the first mistake."""
        self.meaning.check()
        for warning in self.meaning.warnings:
            log.warn(warning)
        process.check(self.process)
        made = [self._config(service) for service in self.meaning.services]
        if not made:
            raise ConfigError("no section to run", where=self.path)
        return made

    def _config(self, service: Service) -> Config:
        verifier = Verifier(replace(service, checks=replace(service.checks, root=self.process.chroot)))
        open_to_all = [str(endpoint) for endpoint in service.accept if not endpoint.loopback]
        warnings = [*service.warnings]
        if open_to_all and "allow" not in self._settings:
            warnings.append(
                f"Service [{service.name}] answers whoever can reach {', '.join(open_to_all)}, as in stunnel; "
                "--allow NET names the networks that may ask"
            )
        settings: dict[str, Any] = {"allow": EVERYBODY, "log_level": self.process.log_level, **self._settings}
        return Config(
            upstreams=tuple(_spec(target, service) for target in service.connect),
            listen=service.accept,
            strategy="rotate" if service.rotate and not service.delay else "ordered",
            local=service.local,
            socket_options=_options(service, "r"),
            listen_options=_options(service, "a"),
            client_options=_options(service, "l"),
            connect_limit=service.connect_limit,
            handshake_limit=service.handshake_limit,
            idle_limit=service.idle_limit,
            delay=service.delay,
            name=service.name,
            sessions=lambda spec: verifier.session(Target(spec.host, spec.port)),
            notes=tuple(f"[{service.name}] {note}" for note in (*service.notes, *_strange_ports(service))),
            warnings=tuple(warnings),
            **settings,
        )


def _options(service: Service, side: str) -> tuple[tuple[int, int, int], ...]:
    return tuple((level, option, value) for where, level, option, value in service.socket_options if where == side)


def _strange_ports(service: Service) -> list[str]:
    """Say once that a port is not known for what is spoken there: a file need not be about DNS."""
    return [
        f"connect = {target.host}:{target.port}: udp2tls speaks DNS over TLS there and nothing else, "
        f"and {target.port} is not its port, which is 853"
        for target in service.connect if target.port < 1024 and target.port not in (config.DNS_PORT, config.DOT_PORT)
    ]  # fmt: skip


def _spec(target: Target, service: Service) -> UpstreamSpec:
    names = (*service.checks.hosts, *service.checks.addresses)
    return UpstreamSpec(target.host, target.port, names[0] if names else target.host)


def _known(find: Any, name: str) -> bool:
    try:
        find(name)
    except (ConfigError, ImportError):  # ImportError: Windows, where process.check has its own words
        return False
    return True
