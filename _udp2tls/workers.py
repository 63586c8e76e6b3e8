"""Several processes on one port: the first supervises, each worker has a loop and sockets of its own.

The kernel spreads clients over sockets bound with SO_REUSEPORT by address and port, and what it
gave to a socket that nobody reads is lost. So the supervisor binds a set of sockets for each
worker before it forks, and keeps them: when a worker dies, its replacement finds in the same
sockets what was asked meanwhile. It binds every address once without SO_REUSEPORT first, for a
port that somebody else shares out is not ours. It reads nothing itself. It keeps its rights,
to start workers anew; each worker gives them up. When what is done is in ``supervisor``.

Signals are taken one at a time between turns (sigtimedwait), so that no handler can come between
a fork and its note. In a worker they stay blocked until it has its handlers. Workers end when
the supervisor does, even by SIGKILL: their lifeline, a pipe, is cut. What only a worker opened
itself (an address that SIGHUP brought) its replacement opens again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from _udp2tls import daemon, log, process, system, upstream
from _udp2tls.config import BindError, Config, ConfigError, Endpoint
from _udp2tls.process import Process, ProcessError
from _udp2tls.supervisor import PASSED_ON, STOP, Supervisor

MOST = 64

Sockets = dict[Endpoint, tuple[Any, Any]]
Reread = Callable[[], Sequence[Config]]


def parse(text: str, where: str = "--workers") -> int:
    """Read a number of processes; raises ConfigError, also when this system cannot have several."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not 1 <= number <= MOST:
        raise ConfigError(f"{text!r} is not a number from 1 to {MOST}", where=where, remedy="one for each core at most")
    if number > 1 and not available():
        raise ConfigError(
            "several processes on one port need SO_REUSEPORT, fork and sigtimedwait, which this system lacks",
            where=where, remedy="leave it out: one process serves",
        )  # fmt: skip
    return number


def say(count: int) -> str:
    """Return the line of --check."""
    return f"workers   {count} processes on each port, and one that supervises them"


def available() -> bool:
    """True where one port can have several processes."""
    return system.constant("SO_REUSEPORT") is not None and hasattr(os, "fork") and hasattr(signal, "sigtimedwait")


def serve(
    forwarder_type: Any, configs: Sequence[Config], reread: Reread, about: Process = daemon.NOTHING,
    names_limit: float = 0.0,
) -> int:  # fmt: skip
    """Run as many processes as the first configuration says; return the exit status.

    ``names_limit``: seconds at the start for the upstreams' names. Raises as daemon.serve does.
    """

    def work(
        configs: Sequence[Config], reread: Reread, about: Process, notify: Any, sockets: Sockets, **more: Any
    ) -> int:
        forwarder = forwarder_type(*configs)
        if sockets:
            forwarder.take(sockets)
        if names_limit:
            forwarder.find_names(names_limit)
        return daemon.serve(forwarder, about, reread=reread, notify=notify, **more)

    if configs[0].workers == 1:
        return work(configs, reread, about, forwarder_type.notify, {})
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        raise ConfigError(
            "sockets that systemd has bound (LISTEN_FDS) cannot be shared by several workers", where="--workers",
            remedy="leave --workers out, or disable the socket unit and name the addresses with --listen",
        )  # fmt: skip
    for config in configs:
        upstream.build(config)  # complains of files that cannot be used
    mine = replace(about, pid=about.pid and about.chroot + about.pid, chroot="")
    sockets = bind(configs, configs[0].workers)
    process.write_pid(mine)
    try:
        system_side = Processes(configs, reread, sockets, replace(about, pid=""), work)
        log.supervising(configs[0].workers)
        return Supervisor(configs[0].workers, system_side, forwarder_type.clock, forwarder_type.notify).run()
    finally:
        process.remove_pid(mine)


def shared(config: Config) -> Config:
    """Return the configuration with listening sockets that others may bind beside."""
    level, option = system.constant("SOL_SOCKET") or 0, system.constant("SO_REUSEPORT") or 0  # parse has looked
    return replace(config, listen_options=(*config.listen_options, (level, option, 1)))


def bind(configs: Sequence[Config], count: int) -> list[Sockets]:
    """Bind every address for every worker; raises BindError."""
    sets: list[Sockets] = [{} for _ in range(count)]
    for config in configs:
        for endpoint in config.listen:
            try:
                udp, tcp = system.bind_both(endpoint, config.listen_options)
            except BindError as error:
                if not config.listen_optional or not error.no_such_address:
                    raise
                continue  # each worker says so
            real = Endpoint(endpoint.host, udp.getsockname()[1])
            udp.close()
            tcp.close()
            for one in sets:
                one[endpoint] = system.bind_both(real, shared(config).listen_options)
    return sets


class Processes:
    """The operating system's side of a Supervisor: forks, waits for signals, holds the sockets."""

    def __init__(
        self, configs: Sequence[Config], reread: Reread, sockets: list[Sockets], about: Process, work: Any
    ) -> None:
        self._configs, self._reread, self._sockets = configs, reread, sockets
        self._about, self._work = about, work
        self._signals = [getattr(signal, name) for name in ("SIGCHLD", *STOP, *PASSED_ON)]
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        self._ready, self._say_ready = os.pipe()
        self._lifeline, self._hold = os.pipe()
        os.set_blocking(self._ready, False)

    def signal(self, wait: float) -> str:
        """Wait for a signal; return its name, "" when there was none in time."""
        found = signal.sigtimedwait(self._signals, wait)
        return signal.Signals(found.si_signo).name if found else ""

    def start(self, number: int) -> int:
        """Fork a worker; return its process id."""
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            status = self._be(number)
        except ConfigError as error:
            status = 2
            print(f"udp2tls: {error}", file=sys.stderr, flush=True)
        except (BindError, ProcessError) as error:
            print(f"udp2tls: {error}", file=sys.stderr, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # whatever happens, never back into the supervisor

    def _be(self, number: int) -> int:
        """Be the worker: serve on its sockets alone until told to stop."""
        log.worker(number)
        for fd in (self._hold, self._ready):
            os.close(fd)
        for at, sockets in enumerate(self._sockets, 1):
            if at != number:
                _close(sockets.values())

        def notify(state: str) -> None:
            if state == "READY=1":
                os.write(self._say_ready, bytes((number,)))
                threading.Thread(target=self._watch, daemon=True).start()  # before signals are let in: they are not its
                signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

        def reread() -> list[Config]:
            return [shared(config) for config in self._reread()]

        configs = [shared(config) for config in self._configs]
        # The others read the lists that the first one has stored; its replacement is the first one too.
        status: int = self._work(
            configs, reread, self._about, notify, self._sockets[number - 1], downloads=number == 1
        )  # fmt: skip
        return status

    def _watch(self) -> None:
        os.read(self._lifeline, 1)  # returns when the supervisor is gone
        os.kill(os.getpid(), signal.SIGTERM)

    def tell(self, pid: int, name: str) -> None:
        os.kill(pid, getattr(signal, name))  # it is our child and not waited for yet, so the number is still its own

    def ready(self) -> list[int]:
        """Return the numbers of the workers that have begun to serve."""
        try:
            return list(os.read(self._ready, 4096))
        except BlockingIOError:
            return []

    def ended(self) -> list[tuple[int, int]]:
        """Return the process ids of workers that have ended, and how: exit status, or minus the signal."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if not pid:
                return found
            found.append((pid, os.waitstatus_to_exitcode(status)))

    def reload(self) -> None:
        """Let go of the addresses that are listened on no more: nobody would read what comes there."""
        try:
            configs = self._reread()
        except ConfigError:
            return  # the workers say so
        if configs[0].workers != len(self._sockets):
            log.warn(f"workers: {len(self._sockets)} go on; another number needs a restart")
        self._configs = configs
        kept = {endpoint for config in configs for endpoint in config.listen}
        for sockets in self._sockets:
            _close([sockets.pop(endpoint) for endpoint in list(sockets) if endpoint not in kept])


def _close(pairs: Iterable[tuple[Any, Any]]) -> None:
    for pair in pairs:
        for sock in pair:
            sock.close()
