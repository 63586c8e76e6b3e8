"""The real thing on 127.0.0.1: dnsdist answers over TLS, udp2tls forwards, dnsperf asks. See ``load``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import udp2tls
from _udp2tls import demo
from bench import load

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Loopback:
    """Upstream and forwarder, running. ``folder`` gets configuration, names and logs."""

    def __init__(self, folder: Path, files: demo.Files) -> None:
        self._folder = folder
        load.write_names(folder)
        self._upstream = load.Upstream(folder, files.server_file, files.server_file)
        (self.port,) = load.free_ports(1)
        command = [
            sys.executable, udp2tls.__file__, "--listen", f"127.0.0.1:{self.port}", "--ca-file", files.ca_file,
            "--upstream", f"tls://127.0.0.1:{self._upstream.port}#{demo.NAME}",
        ]  # fmt: skip
        self._forwarder = load.start(command, folder, load.cores()[0])
        if not load.answers(self.port, 10, lambda: self._forwarder.poll() is None):
            self.close()
            raise RuntimeError(f"udp2tls does not answer; see the logs in {folder}")

    def load(self, outstanding: int, seconds: int, *, rate: int = 0) -> load.Load:
        """Ask so many at a time; ``rate`` limits the queries per second."""
        if outstanding == 1:
            return load.one_at_a_time(self.port, seconds)
        return load.dnsperf(self._folder, self.port, outstanding, seconds, rate=rate)

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of CPU that the forwarder has used: in user mode, in the kernel."""
        fields = Path(f"/proc/{self._forwarder.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / _TICKS, int(fields[12]) / _TICKS

    def close(self) -> None:
        load.end(self._forwarder)
        self._upstream.close()
