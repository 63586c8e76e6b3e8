"""Which worker is started, told, started again or killed, and when.

Knows workers by number and process id. The operating system's side is given
(``workers.Processes``), and so is the clock: what is here can be tested without a process.
A worker that cannot begin at all ends everything, for the next one would not either; once
all have served, one that dies is started again, after pauses that grow while it keeps dying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from _udp2tls import log

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before a worker that died is started again
LIVED_WELL = 10.0  # whoever lived so long begins with the first pause again
GRACE = 10.0  # for workers to end, before they are killed
LOOK = 0.02  # how often to look whether a worker that starts is ready
LONG = 3600.0

STOP = ("SIGTERM", "SIGINT", "SIGQUIT")
PASSED_ON = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")


@dataclass
class Worker:
    number: int
    pid: int = 0  # 0: not running
    ready: bool = False
    began: float = 0.0
    deaths: int = 0  # one soon after another
    again_at: float = 0.0


class Supervisor:
    """Starts workers, passes signals on, starts anew who dies, and ends when all have ended.

    ``processes`` is the operating system's side: see Processes.
    """

    def __init__(
        self, count: int, processes: Any, clock: Callable[[], float], notify: Callable[[str], None]
    ) -> None:
        self.workers = [Worker(number) for number in range(1, count + 1)]
        self._processes, self._clock, self._notify = processes, clock, notify
        self._complete = False  # all have been ready
        self._stopping = False
        self._kill_at = 0.0
        self._status = 0

    def run(self) -> int:
        """Return the exit status: 0 after a clean stop, what a worker says that cannot begin."""
        for worker in self.workers:
            self._start(worker)
        while not self._stopping or self._alive():
            name = self._processes.signal(self._wait())
            if name in STOP:
                self._stop()
            elif name in PASSED_ON:
                if name == "SIGHUP":
                    self._processes.reload()
                elif name == "SIGUSR1":
                    log.reopen()
                self._tell(name)
            for number in self._processes.ready():
                self.workers[number - 1].ready = True
            for pid, status in self._processes.ended():
                self._ended(pid, status)
            self._go_on()
        log.stopped()
        return self._status

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.pid]

    def _tell(self, name: str) -> None:
        for worker in self._alive():
            self._processes.tell(worker.pid, name)

    def _start(self, worker: Worker) -> None:
        worker.ready, worker.began = False, self._clock()
        worker.pid = self._processes.start(worker.number)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping, self._kill_at = True, self._clock() + GRACE
            self._notify("STOPPING=1")
        self._tell("SIGTERM")

    def _wait(self) -> float:
        """Return for how long nothing is due."""
        now = self._clock()
        if self._stopping:
            return max(0.0, self._kill_at - now)
        if any(not worker.ready for worker in self._alive()):
            return LOOK
        return max(0.0, min([LONG, *(worker.again_at - now for worker in self.workers if not worker.pid)]))

    def _ended(self, pid: int, status: int) -> None:
        for worker in self.workers:
            if worker.pid == pid:
                break
        else:
            return  # no child of ours
        worker.pid = 0
        if self._stopping:
            self._status = self._status or int(status != 0)
        elif not self._complete:  # as it cannot begin, neither can we
            self._status = status if status > 0 else 1
            self._stop()
        else:
            now = self._clock()
            if now - worker.began >= LIVED_WELL:
                worker.deaths = 0
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(worker.deaths, 10))
            worker.deaths += 1
            worker.again_at = now + pause
            log.worker_ended(worker.number, pid, status, pause)

    def _go_on(self) -> None:
        """Do what is due now."""
        if self._stopping:
            if self._clock() >= self._kill_at:
                self._tell("SIGKILL")
                self._kill_at = self._clock() + GRACE
            return
        if not self._complete and all(worker.ready for worker in self.workers):
            self._complete = True
            self._notify("READY=1")
        for worker in self.workers:
            if not worker.pid and self._clock() >= worker.again_at:
                self._start(worker)
