"""nssm: the commands, taken apart as cmd.exe, nssm and Python's C library do."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import udp2tls
from _udp2tls import nssm

PYTHON = r"C:\Program Files\Python313\python.exe"
SCRIPT = r"C:\udp2tls\udp2tls.py"


def c_library(line: str) -> list[str]:
    """Split a command line as Microsoft's C library does (from 2008 on)."""
    arguments, current, inside, open_, at = [], "", False, False, 0
    while at < len(line):
        backslashes = len(line[at:]) - len(line[at:].lstrip("\\"))
        at += backslashes
        if at < len(line) and line[at] == '"':
            current += "\\" * (backslashes // 2)
            open_ = True
            if backslashes % 2:
                current += '"'
            elif inside and line[at + 1 : at + 2] == '"':
                current += '"'
                at += 1
            else:
                inside = not inside
            at += 1
            continue
        current += "\\" * backslashes
        if at < len(line):
            if line[at] in " \t" and not inside:
                if open_ or current:
                    arguments.append(current)
                current, open_ = "", False
            else:
                current += line[at]
                open_ = True
            at += 1
    if open_ or current:
        arguments.append(current)
    return arguments


def outside_quotes(line: str) -> str:
    """Return what cmd.exe takes for itself: it counts quotes, and knows no backslash before them."""
    return re.sub(r'"[^"]*("|$)', "", line)


def installed(arguments: list[str], python: str = PYTHON, folder: str = r"C:\udp2tls") -> list[list[str]]:
    """Return the commands as nssm gets them."""
    lines = nssm.commands(python, SCRIPT, folder, arguments).splitlines()
    assert all(line.startswith("nssm ") for line in lines)
    return [c_library(line)[1:] for line in lines]


def run(arguments: list[str]) -> list[str]:
    """Return what the program gets when nssm starts it."""
    _, _, program, *parameters = installed(arguments)[0]
    return c_library(f'"{program}" {" ".join(parameters)}')


def test_the_commands_are_these() -> None:
    said = nssm.commands(PYTHON, SCRIPT, r"C:\my dns", ["-u", "tls://9.9.9.9#dns.quad9.net", "--ca-file", r"my ca.pem"])
    assert said.splitlines() == [
        r'nssm install udp2tls "C:\Program Files\Python313\python.exe" C:\udp2tls\udp2tls.py'
        r' -u tls://9.9.9.9#dns.quad9.net --ca-file """my ca.pem"""',
        r'nssm set udp2tls AppDirectory "C:\my dns"',
        r'nssm set udp2tls AppStdout "C:\my dns\udp2tls.log"',
        r'nssm set udp2tls AppStderr "C:\my dns\udp2tls.log"',
        "nssm set udp2tls AppRotateFiles 1",
        "nssm set udp2tls AppRotateBytes 10485760",
        "nssm set udp2tls AppEnvironmentExtra PYTHONUTF8=1 PYTHONUNBUFFERED=1",
        "nssm set udp2tls AppStopMethodConsole 5000",
        "nssm set udp2tls AppExit 2 Exit",
        "nssm start udp2tls",
    ]


@pytest.mark.parametrize(
    "argument",
    ["plain", "two words", "", 'a "quote"', "ends\\", "ends with \\", r"C:\a & b\c.pem", r"C:\a&b.pem", "a^b|c", "\t"],
)
def test_every_argument_arrives(argument: str) -> None:
    assert run(["-u", argument, "last"]) == [PYTHON, SCRIPT, "-u", argument, "last"]


@given(st.lists(st.text(alphabet='ab "\\&=#', max_size=8), max_size=4))
@example(['\\"', "a \\\\", '" "'])
def test_any_arguments_arrive(arguments: list[str]) -> None:
    assert run(arguments) == [PYTHON, SCRIPT, *arguments]


def test_the_shell_sees_no_sign_of_its_own_in_a_path() -> None:
    line = nssm.commands(PYTHON, SCRIPT, r"C:\a & b", ["--ca-file", r"C:\a & b (1)\ca.pem"])
    assert not set("&|<>()^") & set(outside_quotes(line.replace("\n", " ")))


def test_a_service_needs_a_console_to_be_stopped_by() -> None:
    commands = installed([], python=r"C:\pythonw\PythonW.exe")
    assert commands[0][2] == r"C:\pythonw\python.exe"


def test_variables_that_configure_go_along() -> None:
    said = nssm.commands(PYTHON, SCRIPT, "C:\\", [], {"DNS_HOST": "9.9.9.9", "PATH": "x", "HOST": ""})
    assert "AppEnvironmentExtra PYTHONUTF8=1 PYTHONUNBUFFERED=1 DNS_HOST=9.9.9.9\n" in said


def test_the_command_line_prints_them_for_what_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert udp2tls.main(["-l", "127.0.0.1:5353", "--nssm", "-u", "tls://9.9.9.9"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("nssm install udp2tls ")
    assert first.endswith("udp2tls.py -l 127.0.0.1:5353 -u tls://9.9.9.9")
    assert last == "nssm start udp2tls"
    assert udp2tls.main(["--nssm", "-l", "nowhere"]) == 2
    assert capsys.readouterr().out == "", "what cannot run is no service"
