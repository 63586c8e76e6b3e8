"""The command line: what options, file and environment add up to, and what errors say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import udp2tls
from _udp2tls import choice, cli, stamps
from _udp2tls.config import Config, ConfigError, Endpoint
from tests import signed

ROOT = Path(__file__).parent.parent


def read(*argv: str, **environment: str) -> Config:
    return cli.read(cli.parser().parse_args(argv), environment)


def test_without_anything_the_defaults_stand_and_the_upstream_is_said() -> None:
    config = read()
    assert config.listen == (Endpoint("127.0.0.1", 53), Endpoint("::1", 53))
    assert config.listen_optional
    assert [str(spec) for spec in config.upstreams] == [cli.DEFAULT_UPSTREAM]
    assert cli.DEFAULT_UPSTREAM in config.notes[0]
    assert config.timeout == 4.0
    assert not config.log_queries


def test_repeatable_options_keep_their_order() -> None:
    config = read(
        "-l", "127.0.0.1:5300", "--listen", "[::1]:5301", "-u", "tls://9.9.9.9#dns.quad9.net", "-u", "tls://1.1.1.1"
    )
    assert config.listen == (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5301))
    assert not config.listen_optional
    assert [str(spec) for spec in config.upstreams] == ["tls://9.9.9.9#dns.quad9.net", "tls://1.1.1.1"]
    assert config.notes == ()


def test_flags_win_over_the_file_and_the_file_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "udp2tls.toml"
    file.write_text(
        'listen_addresses = ["127.0.0.3:53"]\nupstream = "tls://9.9.9.9"\ntimeout = 3\nlog_queries = true\n'
    )
    config = read(str(file), "-u", "tls://8.8.8.8", HOST="127.0.0.4", DNS_HOST="1.1.1.1")
    assert config.listen == (Endpoint("127.0.0.3", 53),)
    assert [str(spec) for spec in config.upstreams] == ["tls://8.8.8.8"]
    assert config.timeout == 3.0
    assert config.log_queries


def test_every_other_option_reaches_the_configuration() -> None:
    pin = "sha256/" + "A" * 43 + "="
    trust = ["--pin", pin, "--ca-file", "ca.pem", "--client-cert", "c.pem", "--client-key", "k.pem"]
    reach = ["--bootstrap", "9.9.9.9", "--allow", "192.168.0.0/16", "--allow", "fd00::/8", "-l", "0.0.0.0"]
    config = read(*trust, *reach, "--timeout", "2.5", "--log-level", "DEBUG", "--log-queries")
    assert config.pins == frozenset([bytes(32)])
    assert (config.ca_file, config.client_cert, config.client_key) == ("ca.pem", "c.pem", "k.pem")
    assert [str(spec) for spec in config.bootstrap] == ["tls://9.9.9.9"]
    assert config.allows("192.168.3.4")
    assert config.allows("fd00::1")
    assert not config.allows("8.8.8.8")
    assert config.timeout == 2.5
    assert (config.log_level, config.log_queries) == ("debug", True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--upstrem", "x"], "unrecognized arguments: --upstrem"),
        (["--listen"], "expected one argument"),
        (["-l", "localhost"], "--listen: 'localhost' is not an IP address\n    localhost\n    ~~~~~~~~^"),
        (["-l", "127.0.0.1:99999"], "    127.0.0.1:99999\n              ~~~~^"),
        (["-l", "0.0.0.0"], "--listen: listening on 0.0.0.0:53 would serve everyone who can reach it"),
        (["-u", "udp://9.9.9.9"], "    udp://9.9.9.9\n    ~~^"),
        (["-u", "sdns://AAcAAAAAAAAABzguOC44Ljg"], "--upstream: plain DNS is not encrypted"),
        (["-u", "sdns://AAc"], "--upstream: it ends 7 bytes too early\n    sdns://AAc\n            ~^"),
        (["--stamp", "sdns://AAc"], "--stamp: it ends 7 bytes too early"),
        (["--timeout", "soon"], "--timeout: 'soon' is not a number of seconds"),
        (["--timeout", "0"], "--timeout: 0 is not between"),
        (["--log-level", "loud"], "--log-level: 'loud' is none of debug, info, warning, error"),
        (["--client-key", "k.pem"], "--client-key: a key without its certificate"),
        (["--pin", "md5/abc"], "--pin: not a pin"),
        (["--allow", "everyone"], "--allow: not a network"),
        (["stunnel.conf"], "stunnel.conf: No such file or directory"),
        (["--service", "dns"], "--service goes with a stunnel.conf"),
        (["-u", "tls://9.9.9.9", "stunnel.conf"], "--upstream does not go with a stunnel.conf"),
        (["missing.toml"], "missing.toml: No such file or directory"),
        (["--ca-file", "missing.pem", "--check"], "--ca-file: cannot use missing.pem: No such file or directory"),
    ],
)
def test_bad_configuration_exits_2_and_says_what_and_where(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOST", "PORT", "DNS_HOST", "DNS_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert udp2tls.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("udp2tls: ")
    assert said in captured.err


def test_a_bad_variable_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "my-machine")
    assert udp2tls.main(["--check"]) == 2
    assert "environment HOST, PORT: 'my-machine' is not an IP address" in capsys.readouterr().err


def test_check_says_what_the_configuration_means(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "--check",
        "-l",
        "0.0.0.0:5300",
        "--allow",
        "10.0.0.0/8",
        "-u",
        "tls://dns.example",
        "--bootstrap",
        "9.9.9.9",
    ]
    assert udp2tls.main([*argv, "--pin", "sha256/" + "A" * 43 + "="]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "listen    0.0.0.0:5300 (UDP and TCP)",
        "upstream  1. dns.example port 853, certificate must be for dns.example, address looked up over TLS at 9.9.9.9",
        "trust     the system store; TLS 1.2 or 1.3, always verified",
        "pins      1; one must be in the verified chain",
        "clients   this machine and 10.0.0.0/8",
        "timeout   4 s, then SERVFAIL with the reason",
    ]


SERVER = stamps.Stamp(stamps.Kind.DNSCRYPT, address="192.0.2.1", key=bytes(range(32)), provider="2.cert.example")


def test_check_shows_relay_and_keys_and_warns_of_neighbours(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def check(relay: str, *options: str) -> list[str]:
        ways = [stamps.Stamp(stamps.Kind.DNSCRYPT_RELAY, address=one) for one in (relay,) if one]
        stamp = stamps.format(stamps.Pair(ways[0], SERVER) if ways else SERVER)
        assert udp2tls.main(["--check", *options, "-u", stamp]) == 0
        return capsys.readouterr().out.splitlines()

    lines = check("198.51.100.1:8443")
    assert lines[2] == (
        "upstream  1. 192.0.2.1 port 443, DNSCrypt, provider 2.cert.example, through the relay 198.51.100.1:8443,"
        " a new key pair every hour"
    )
    assert not any(line.startswith("warning") for line in lines)
    lines = check("192.0.2.99", "--ephemeral-keys")
    assert lines[2].endswith("through the relay 192.0.2.99:443, a new key pair for each query")
    assert lines[-1].startswith("warning   the relay 192.0.2.99 and its server 192.0.2.1 are in one network")
    file = tmp_path / "keys.toml"
    file.write_text("dnscrypt_ephemeral_keys = true\n")
    assert check("", str(file))[2].endswith("provider 2.cert.example, a new key pair for each query")


def test_check_says_that_a_stamps_hashes_are_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    stamp = "sdns://AwcAAAAAAAAADDEuMS4xLjE6ODg1MyDDhGvyS56TymQnTA7GfB7MXgJP_KzS10AZNQ6B_lRq5BJjbG91ZGZsYXJlLWRucy5jb20"
    assert udp2tls.main(["--check", "-u", stamp]) == 0
    assert capsys.readouterr().out.splitlines()[2] == (
        "upstream  1. 1.1.1.1 port 8853, certificate must be for cloudflare-dns.com,"
        " its chain must match a hash of the stamp"
    )


def with_lists(folder: Path, *more: str) -> str:
    servers = {"one": signed.server("192.0.2.1"), "two": signed.dot("192.0.2.2"), "anon-r": signed.relay("10.0.0.1")}
    (folder / "file.toml").write_text("\n".join((*more, signed.write(folder, "lists", servers))))
    return str(folder / "file.toml")


def test_the_servers_of_lists_are_upstreams_after_those_by_url(tmp_path: Path) -> None:
    path = with_lists(tmp_path, "server_names = ['two', 'one']", "upstream = 'tls://9.9.9.9'")
    config = read(path, DNS_HOST="1.1.1.1")
    assert [spec.host for spec in config.upstreams] == ["9.9.9.9", "192.0.2.2", "192.0.2.1"]
    assert [source.name for source in config.sources] == ["lists"]
    assert config.renewed is choice.renewed
    assert choice.renewed(config) == config
    assert config.notes == ()


def test_an_upstream_on_the_command_line_takes_the_place_of_lists_too(tmp_path: Path) -> None:
    config = read(with_lists(tmp_path, "server_names = ['two']"), "-u", "tls://9.9.9.9")
    assert [spec.host for spec in config.upstreams] == ["9.9.9.9"]
    assert (config.sources, config.choice) == ((), None)
    assert config.notes == ("--upstream is given, so the servers and lists of the file are not used",)


def test_check_says_which_lists_there_are_and_who_is_asked_through_whom(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    route = "[anonymized_dns]\nroutes = [{ server_name = 'one', via = ['anon-r'] }]"
    path = with_lists(tmp_path, "server_names = ['one', 'two']", route, signed.table("gone"))
    assert udp2tls.main(["--check", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:8] == [
        "upstream  1. 192.0.2.1 port 443, DNSCrypt, provider 2.dnscrypt-cert.test.example,"
        " through the relay 10.0.0.1:443, a new key pair every hour",
        "upstream  2. 192.0.2.2 port 853, certificate must be for dot.example",
        f"source    lists: 3 names, from {tmp_path / 'lists.md'}",
        "route     one (192.0.2.1) through anon-r (10.0.0.1:443)",
        "strategy  ordered: the first that works, and back to it when it works again",
        "trust     the system store; TLS 1.2 or 1.3, always verified",
    ]
    assert lines[-1].startswith(f"warning   source gone: {tmp_path / 'gone.md'}: No such file")


def test_list_prints_the_lists_and_a_mistake_in_a_name_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = with_lists(tmp_path, "server_names = ['twoo']")
    assert udp2tls.main(["--list", path]) == 0
    assert "two     DoT" in capsys.readouterr().out
    assert udp2tls.main(["--check", path]) == 2
    said = f"udp2tls: {path}:1: there is no server 'twoo'\n    server_names = ['twoo']\n"
    assert capsys.readouterr().err == f"{said}                     ~~~^\n  did you mean two?\n"
    assert udp2tls.main(["--list"]) == 2
    assert "--list: there is no file that names lists" in capsys.readouterr().err


def test_without_lists_nothing_of_them_is_imported(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text("upstream = 'tls://9.9.9.9'")
    rooms = {"catalog", "choice", "lists", "listing", "minisign", "routes", "sources", "stamps", "tables"}
    code = "import sys, udp2tls; udp2tls.main(sys.argv[1:]); print(*[m for m in sys.modules if '_udp2tls' in m])"
    argv = [sys.executable, "-c", code, "--check", str(tmp_path / "plain.toml")]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert "_udp2tls.toml" in loaded
    assert not rooms & {one.removeprefix("_udp2tls.") for one in loaded}


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (["--help"], "examples:"), (["--version"], f"udp2tls {udp2tls.__version__}"):
        with pytest.raises(SystemExit) as caught:
            udp2tls.main(argv)
        assert caught.value.code == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a" * 64 + ".example/A", "www.example/NONSENSE"])
def test_a_name_that_cannot_be_asked_for_is_a_mistake(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--resolve"):
        cli._resolve(text, read(), udp2tls.Forwarder)


def test_resolve_without_an_answer_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ["--resolve", "www.example/AAAA", "-u", "tls://127.0.0.1:1", "--timeout", "0.3"]
    assert udp2tls.main(refused) == 1
    captured = capsys.readouterr()
    assert "SERVFAIL" in captured.out
    assert "cannot use tls://127.0.0.1:1 at 127.0.0.1:1: connection refused" in captured.err
