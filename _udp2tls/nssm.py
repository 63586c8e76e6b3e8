"""What ``--nssm`` prints: the commands that make a Windows service of this installation.

nssm (nssm.cc, 2.24-101 or later) starts a program as a service, stops it with Ctrl-C and
writes what it says to a file. Pure text from arguments, for cmd.exe.

The program's own parameters are quoted twice. nssm joins them with spaces, as they are, and
hands that line to Windows: so quotes have to reach it. And cmd.exe and nssm's C library take
one layer off before. ``\"""`` is how nssm's documentation writes such a quote; unlike ``\\"``
it keeps cmd.exe, which counts quotes, from acting on ``&`` between them.
"""

from __future__ import annotations

import ntpath
import re
from collections.abc import Mapping, Sequence

SERVICE = "udp2tls"

# The log is begun anew, the old one kept beside it, when the service starts and it is larger.
ROTATE_BYTES = 10 << 20

# Milliseconds between Ctrl-C and the end by force; nssm's own 1500 is what a busy machine may need.
STOP = 5000

# Of the environment, what is part of the configuration.
CONFIGURES = ("HOST", "PORT", "DNS_HOST", "DNS_PORT", "SSL_CERT_FILE", "SSL_CERT_DIR")


def commands(
    executable: str, script: str, folder: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> str:
    """Return the commands, one a line.

    ``executable`` is the Python and ``script`` udp2tls.py; relative paths in ``arguments``
    start at ``folder``, where the log goes as well.
    """
    # pythonw has no console, which is what Ctrl-C is delivered to.
    python = re.sub(r"pythonw(?=(\.exe)?$)", "python", executable, flags=re.IGNORECASE)
    log = quoted(ntpath.join(folder, f"{SERVICE}.log"))
    kept = [f"{name}={value}" for name, value in (environment or {}).items() if name in CONFIGURES and value]
    lines = [
        f"install {SERVICE} {quoted(python)} {' '.join(map(parameter, [script, *arguments]))}",
        f"set {SERVICE} AppDirectory {quoted(folder)}",
        f"set {SERVICE} AppStdout {log}",
        f"set {SERVICE} AppStderr {log}",
        f"set {SERVICE} AppRotateFiles 1",
        f"set {SERVICE} AppRotateBytes {ROTATE_BYTES}",
        f"set {SERVICE} AppEnvironmentExtra {' '.join(map(quoted, ['PYTHONUTF8=1', 'PYTHONUNBUFFERED=1', *kept]))}",
        f"set {SERVICE} AppStopMethodConsole {STOP}",
        f"set {SERVICE} AppExit 2 Exit",
        f"start {SERVICE}",
    ]
    return "\n".join(f"nssm {line}" for line in lines)


def quoted(value: str) -> str:
    """Quote one argument of nssm's for cmd.exe and the C library."""
    # "A=1" needs no quotes: cmd.exe parts words at "=" only for itself.
    if value and not re.search(r'[\s"&|<>^();,!]', value):
        return value
    return _in_quotes(value)


def parameter(value: str) -> str:
    """Quote one parameter of the program that nssm shall start."""
    if value and not re.search(r'[\s"]', value):
        return quoted(value)
    if '"' in value or value.endswith("\\"):
        return _in_quotes(_in_quotes(value))
    return f'"""{value}"""'


def _in_quotes(value: str) -> str:
    """Backslashes are themselves, but before a quote, where they are doubled."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value) + '"'
