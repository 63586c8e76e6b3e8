"""What a configuration asks of the process: a log file, a pid file, another user, a jail.

Owns the values and carries them out. The order matters and is the caller's: sockets are
bound and files are read first, then the pid file is written, then rights are given up,
and nothing is taken back.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from _udp2tls.config import ConfigError


@dataclass(frozen=True)
class Process:
    """Empty: nothing is asked. ``setuid`` and ``setgid`` are names or numbers."""

    log_level: str = "info"
    output: str = ""  # log file; empty: standard error
    overwrite: bool = False  # the log file is begun anew
    pid: str = ""
    setuid: str = ""
    setgid: str = ""
    chroot: str = ""
    notes: tuple[str, ...] = field(default=())  # what is ignored and why, one sentence each


class ProcessError(Exception):
    """The system does not let the process become what it shall be."""


def user_id(name: str) -> tuple[int, int]:
    """Return (user, its group) of a user's name or number; raises ConfigError."""
    import pwd

    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        if name.isdigit() and int(name) < 1 << 32:
            return int(name), int(name)
        raise ConfigError(f"setuid: there is no user {name!r} here", remedy="create it, or name another") from None
    return entry.pw_uid, entry.pw_gid


def group_id(name: str) -> int:
    """Return a group's number by its name or number; raises ConfigError."""
    import grp

    if name.isdigit() and int(name) < 1 << 32:
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"setgid: there is no group {name!r} here", remedy="create it, or name another") from None


def check(process: Process) -> None:
    """Raise ConfigError when it is known now that the process cannot become this."""
    if sys.platform == "win32":
        for name in ("setuid", "setgid", "chroot"):
            if getattr(process, name):
                raise ConfigError(
                    f"{name} is not known on Windows", remedy="run the service under an account of its own instead"
                )
        return
    if process.setuid:
        user_id(process.setuid)
    if process.setgid:
        group_id(process.setgid)
    if process.chroot and os.geteuid() != 0:
        raise ConfigError(
            "chroot needs root", remedy="start as root, or leave it out and let systemd confine the service"
        )


def write_pid(process: Process) -> None:
    """Write the pid file, into the jail if there will be one; raises ProcessError."""
    if process.pid:
        try:
            with open(process.chroot + process.pid, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise ProcessError(
                f"cannot write the pid file {process.chroot + process.pid}: {error.strerror}\n"
                "  create its folder, name another file, or write 'pid =' to have none"
            ) from error


def remove_pid(process: Process) -> None:
    """Remove the pid file, if it can still be reached."""
    if process.pid:
        try:
            os.unlink(process.pid)
        except OSError:
            pass  # rights were given up, or the jail is too small to see it


def give_up_rights(process: Process) -> None:
    """Enter the jail and become the other user, for good; raises ProcessError and ConfigError."""
    if sys.platform == "win32" or not (process.chroot or process.setgid or process.setuid):
        return
    user = user_id(process.setuid) if process.setuid else None  # the jail has no list of users
    group = group_id(process.setgid) if process.setgid else None
    try:
        if process.chroot:
            os.chroot(process.chroot)
            os.chdir("/")
        if group is not None or user is not None:
            os.setgroups([] if group is None else [group])
        if group is not None:
            os.setgid(group)
        elif user is not None:
            os.setgid(user[1])
        if user is not None:
            os.setuid(user[0])
    except OSError as error:
        raise ProcessError(
            f"cannot become user {process.setuid or '(same)'}, group {process.setgid or '(same)'}"
            f"{', root folder ' + process.chroot if process.chroot else ''}: {error.strerror}\n"
            "  start as root, or leave setuid, setgid and chroot out"
        ) from error
