"""A stunnel.conf as configurations: what is carried over, and that the file's word goes for the process too."""

from __future__ import annotations

from pathlib import Path

import pytest

from _udp2tls import config, demo, system
from _udp2tls.config import ConfigError, Endpoint
from stunnel_compat.adopt import EVERYBODY, Adopted


def adopt(folder: Path, text: str, **choices: object) -> Adopted:
    file = folder / "stunnel.conf"
    file.write_text(text)
    return Adopted(str(file), system, **choices)  # type: ignore[arg-type]


SERVICE = "[dns]\nclient = yes\naccept = 127.0.0.1:5399\nconnect = 192.0.2.1:853\n"


def test_a_service_becomes_a_configuration(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    (made,) = adopt(
        tmp_path,
        f"""debug = 4
        [dns]
        client = yes
        accept = 127.0.0.1:5399
        accept = ::1:5399
        connect = 192.0.2.1:853
        connect = dns.example:8853
        CAfile = {files.ca_file}
        verifyChain = yes
        checkHost = one.example
        failover = rr
        local = 127.0.0.9
        TIMEOUTconnect = 1
        TIMEOUTidle = 7
        """,
    ).configs()
    assert made.name == "dns"
    assert made.listen == (Endpoint("127.0.0.1", 5399), Endpoint("::1", 5399))
    assert [(spec.host, spec.port, spec.name) for spec in made.upstreams] == [
        ("192.0.2.1", 853, "one.example"), ("dns.example", 8853, "one.example"),
    ]  # fmt: skip
    assert (made.strategy, made.local, made.connect_limit, made.idle_limit) == ("rotate", "127.0.0.9", 1.0, 7.0)
    assert made.log_level == "warning"
    assert made.sessions is not None
    session = made.sessions(made.upstreams[0])
    assert "one.example" in session.requirement
    assert session.check is not None


def test_every_section_is_a_configuration_of_its_own(tmp_path: Path) -> None:
    text = SERVICE + SERVICE.replace("[dns]", "[other]").replace("5399", "5400")
    assert [made.name for made in adopt(tmp_path, text).configs()] == ["dns", "other"]
    assert [made.name for made in adopt(tmp_path, text, wanted=["other"]).configs()] == ["other"]


def test_a_service_open_to_all_stays_so_with_a_warning_and_the_command_line_can_narrow_it(tmp_path: Path) -> None:
    text = SERVICE.replace("127.0.0.1:5399", "5399")
    (made,) = adopt(tmp_path, text).configs()
    assert made.allow == EVERYBODY
    assert made.allows("192.0.2.77")
    assert any("--allow" in warning for warning in made.warnings)
    (narrow,) = adopt(tmp_path, text, allow=(config.parse_network("198.51.100.0/24"),)).configs()
    assert not narrow.allows("192.0.2.77")
    assert not any("--allow" in warning for warning in narrow.warnings)


def test_what_verifies_nothing_is_warned_of_and_refused_when_strict(tmp_path: Path) -> None:
    (made,) = adopt(tmp_path, SERVICE).configs()
    assert "Service [dns] needs authentication to prevent MITM attacks" in made.warnings
    assert "no certificate is asked for" in made.sessions(made.upstreams[0]).requirement  # type: ignore[misc]
    with pytest.raises(ConfigError):
        adopt(tmp_path, SERVICE, strict=True).configs()


def test_the_first_mistake_is_raised_and_says_that_there_are_more(tmp_path: Path) -> None:
    bad = adopt(tmp_path, SERVICE + "foo = 1\nbar = 2\n")
    assert bad.refused
    with pytest.raises(ConfigError) as caught:
        bad.configs()
    assert "Specified option name is not valid here" in str(caught.value)
    assert ":5" in caught.value.where
    assert "1 more" in str(caught.value)
    assert "bar = 2" in bad.explain()


def test_global_options_are_the_processes(tmp_path: Path) -> None:
    about = adopt(tmp_path, "pid = /run/x.pid\noutput = /var/log/x\nlog = overwrite\n" + SERVICE).process
    assert (about.pid, about.output, about.overwrite) == ("/run/x.pid", "/var/log/x", True)


def test_an_unknown_user_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuchuser"):
        adopt(tmp_path, "setuid = nosuchuser\n" + SERVICE).configs()


def test_a_port_that_is_not_for_dns_is_told_once(tmp_path: Path) -> None:
    (made,) = adopt(tmp_path, SERVICE.replace(":853", ":443")).configs()
    assert sum("443" in note and "853" in note for note in made.notes) == 1
    (usual,) = adopt(tmp_path, SERVICE).configs()
    assert not any("853" in note for note in usual.notes)


def test_a_trust_file_that_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CAfile"):
        adopt(tmp_path, SERVICE + "CAfile = /no/such.pem\nverifyChain = yes\n").configs()
    adopt(tmp_path, SERVICE + "CAfile = /no/such.pem\n").configs()


def test_socket_options_go_to_the_side_they_are_for(tmp_path: Path) -> None:
    lines = "socket = a:SO_RCVBUF=65536\nsocket = l:SO_KEEPALIVE=1\nsocket = r:SO_SNDBUF=32768\n"
    (made,) = adopt(tmp_path, SERVICE + lines).configs()
    assert [len(one) for one in (made.listen_options, made.client_options, made.socket_options)] == [1, 1, 1]
    assert (made.listen_options[0][2], made.socket_options[0][2]) == (65536, 32768)
