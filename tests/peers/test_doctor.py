"""``--doctor`` against real servers: what it says of them is what they are known to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests import authority
from tests.peers import programs

pytestmark = pytest.mark.peers

# The root, so that nothing is asked of the network: what is not here does not exist.
ROOT = """
server:
local-zone: "." static
local-data: ". SOA a.root-servers.net. nstld.example. 1 1800 900 604800 86400"
local-data: ". NS a.root-servers.net."
"""


def doctor(certs: authority.Authority, *options: str) -> tuple[int, str]:
    """Return the exit status and the report, every row on one line."""
    listen = ("--listen", f"127.0.0.1:{programs.free_port()}")
    done = programs.run_forwarder("--doctor", *listen, "--ca-file", certs.ca_file, *options)
    assert done.stderr == ""
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    return done.returncode, " ".join(done.stdout.split())


def test_unbound_is_usable_and_its_pins_work(certs: authority.Authority, tmp_path: Path) -> None:
    program = programs.unbound(certs, tmp_path)
    with (tmp_path / "unbound.conf").open("a") as file:
        file.write(ROOT)
    with program:
        status, said = doctor(certs, *programs.upstream(program.port))
        assert status == 0, said
        for part in (
            "TLS TLSv1.3", "authenticated as dot.test.example", "NOERROR to the query for the root's NS",
            "padding yes", "==> usable 1 of 1 upstreams usable; listening addresses free",
        ):  # fmt: skip
            assert part in said
        assert re.search(r"keepalive \d+ s idle", said)
        assert re.search(r"pipelining (in|out of) order: 8 queries", said)
        assert re.search(r"resumption (yes|no): ", said)
        leaf, spare = re.findall(r"--pin (sha256/\S{44})", said)
        status, said = doctor(certs, *programs.upstream(program.port), "--pin", leaf, "--pin", spare)
        assert status == 0
        assert said.count("(you have it)") == 2


@pytest.mark.parametrize("name", ["dnsdist", "named"])
def test_servers_that_refuse_the_root_are_not_usable_and_say_why(
    name: str, certs: authority.Authority, tmp_path: Path
) -> None:
    with programs.SERVERS[name](certs, tmp_path) as program:
        status, said = doctor(certs, *programs.upstream(program.port))
    assert status == 1
    assert "authenticated as dot.test.example" in said
    assert "answer REFUSED" in said
    assert "NOT usable: it answers REFUSED it does not serve you, or not the root zone" in said


def test_a_wrong_name_is_shown_with_the_right_one(certs: authority.Authority, tmp_path: Path) -> None:
    with programs.unbound(certs, tmp_path) as program:
        status, said = doctor(certs, *programs.upstream(program.port, name="wrong.example"))
    assert status == 1
    assert "names dot.test.example, 127.0.0.1, ::1" in said
    assert said.count("NOT TRUSTED") >= 2
    assert f"--upstream tls://127.0.0.1:{program.port}#dot.test.example" in said
    assert "answer" not in said


def test_a_bare_checkout_says_which_package_has_the_pins(certs: authority.Authority, tmp_path: Path) -> None:
    with programs.unbound(certs, tmp_path) as program:
        options = ("--doctor", "--listen", f"127.0.0.1:{programs.free_port()}", "--ca-file", certs.ca_file)
        bare = ("-S", "-E", "-s")
        done = programs.run_forwarder(
            *options, *programs.upstream(program.port), python=(sys.executable, *bare)
        )  # fmt: skip
    assert "pip install cryptography" in done.stdout
    assert "commonName=dot.test.example" in done.stdout
    assert "sha256/" not in done.stdout
    assert done.stderr == ""
