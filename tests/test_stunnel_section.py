"""One section becomes a Service, or the errors stunnel would give."""

from __future__ import annotations

import pytest

from stunnel_compat.service import Checks, Target
from tests.stunnel_confs.reading import GOOD, of, problems, service

ENABLED = 'Service [dns]: Either "verifyChain" or "verifyPeer" has to be enabled'
CONFIGURED = 'Service [dns]: Either "CAengine", "CAfile" or "CApath" has to be configured'
ENDPOINTS = "Service [dns]: Each service must define two endpoints"


def test_a_bare_service_has_stunnels_defaults() -> None:
    made = service("")
    assert (made.name, made.where) == ("dns", "f.conf:2")
    assert made.accept == (("127.0.0.1", 53),)
    assert made.connect == (Target("192.0.2.1", 853),)
    assert made.checks == Checks()
    assert (made.sni, made.rotate, made.delay, made.resume) == (None, False, False, True)
    assert (made.connect_limit, made.handshake_limit, made.idle_limit) == (10, 10, 43200)
    assert made.warnings == ("Service [dns] needs authentication to prevent MITM attacks",)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("lines", "chain", "peer"),
    [
        ("verify = 0", False, False), ("verify = 1", True, False), ("verify = 2", True, False),
        ("verify = 3", True, True), ("verify = 4", False, True), ("verifyChain = yes", True, False),
        ("verifyPeer = yes", False, True), ("verifyChain = yes\nverifyPeer = yes", True, True),
        ("verifyChain = yes\nverify = 4", False, True), ("verify = 4\nverifyChain = yes", True, True),
        ("verify = 2\nverifyChain = no", False, False), ("verify = 3\nverifyPeer = no", True, False),
        ("verifyChain = yes\nverify = 0", False, False), ("verifyChain = no\nVERIFYCHAIN = YES", True, False),
    ],
)  # fmt: skip
def test_the_later_line_wins_for_each_flag(lines: str, chain: bool, peer: bool) -> None:
    for made in (service(f"CAfile = a.pem\n{lines}"), service("CAfile = a.pem", lines)):
        assert (made.checks.chain, made.checks.peer) == (chain, peer)


def test_names_are_one_pool_to_which_the_defaults_belong() -> None:
    lines = "verifyChain = yes\nCApath = certs\ncheckHost = b\ncheckIP = 192.0.2.1\ncheckEmail = a@b\ncheckHost ="
    made = service(lines + "\nCRLfile = c\nCRLpath = d", "checkHost = a")
    assert made.checks == Checks(
        True, False, ("a", "b", ""), ("192.0.2.1",), ("a@b",), ca_path="certs", crl_file="c", crl_path="d"
    )
    assert "an empty checkHost matches no certificate" in made.warnings[0]


@pytest.mark.parametrize("check", ["checkHost = a", "checkIP = 192.0.2.1", "checkEmail = a@b"])
@pytest.mark.parametrize("verify", ["", "\nverify = 0", "\nverifyChain = no"])
def test_names_alone_verify_nothing(check: str, verify: str) -> None:
    assert problems(f"CAfile = a.pem\n{check}{verify}") == [ENABLED]
    assert problems(f"CAfile = a.pem{verify}", check) == [ENABLED]


@pytest.mark.parametrize("verify", ["verifyChain = yes", "verifyPeer = yes", "verify = 1", "verify = 4"])
def test_verification_needs_somebody_to_trust(verify: str) -> None:
    for lines in (verify, f"CAfile = a.pem\n{verify}\nCAfile ="):
        assert problems(lines) == [CONFIGURED]
    assert not problems(f"{verify}\nCApath = certs")


def test_without_verification_nobody_need_be_trusted() -> None:
    assert service("verify = 0").checks == Checks()


def test_what_lets_strangers_in_is_warned_of() -> None:
    assert service("CAfile = a.pem\nverifyChain = yes").warnings == (
        'Service [dns] uses "verifyChain" without subject checks',
    )
    assert service("CAfile = a.pem\nverifyPeer = yes").warnings == ()
    assert service("CAfile = a.pem\nverifyChain = yes\ncheckIP = 192.0.2.1").warnings == ()
    made = of(f"[dns]\n{GOOD}", strict=True)
    assert "Service [dns] needs authentication" in str(made.errors[0])
    assert of(f"[dns]\n{GOOD}CAfile = a.pem\nverifyChain = yes\n", strict=True).services
    assert "have no effect without verifyChain" in service("CRLfile = a.pem").notes[0]


def test_a_wrong_value_has_no_consequences() -> None:
    lines = "CAfile = a.pem\ncheckHost = a\nverifyChain = 1"
    assert problems(lines) == ["The argument needs to be either 'yes' or 'no'"]
    assert problems("checkHost = a", "verify = 5") == ["Bad verify level"]


@pytest.mark.parametrize("lines", ["accept = 53", "connect = 192.0.2.1:853", ""])
def test_two_endpoints(lines: str) -> None:
    made = of(f"[dns]\nclient = yes\n{lines}\n")
    assert {error.problem for error in made.errors} == {ENDPOINTS}
    assert "there is no " in made.errors[0].remedy


def test_addresses_add_up_and_doubles_are_one() -> None:
    made = service("accept = ::1:53\naccept = 127.0.0.1:53\nconnect = dns.example:853", "connect = 192.0.2.9:853")
    assert made.accept == (("127.0.0.1", 53), ("::1", 53))
    assert made.connect == (Target("192.0.2.9", 853), Target("192.0.2.1", 853), Target("dns.example", 853))


def test_a_wrong_address_among_right_ones_is_left_out_as_stunnel_does() -> None:
    made = service("connect = 192.0.2.2\naccept = nohost.example:53")
    assert len(made.connect) == len(made.accept) == 1
    assert len([warning for warning in made.warnings if "is left out" in warning]) == 2
    for lines in ("connect = /run/dns", "accept = /run/dns"):
        assert "Unix socket" in problems(lines)[0]


def test_a_comment_behind_an_address_is_explained() -> None:
    made = of("[dns]\nclient = yes\naccept = 127.0.0.1:53\nconnect = 192.0.2.1:853 #Japan\n")
    what, shown, under, *remedy = str(made.errors[0]).split("\n")
    assert what.startswith("f.conf:4: ")
    assert shown[under.index("~") :].strip() == "#Japan"
    assert "stunnel knows no comments after a value" in remedy[0]
    assert remedy[1].endswith("write: connect = 192.0.2.1:853")


def test_ocsp_is_refused_unless_done_without() -> None:
    for line in ("OCSP = http://192.0.2.1/", "OCSPaia = yes", "OCSPrequire = yes"):
        (said,) = problems(line)
        assert "is not supported" in said
        assert any("--without-ocsp" in warning for warning in service(line, without_ocsp=True).warnings)
    assert not problems("OCSPaia = yes\nOCSPaia = no\nOCSPflag = NOCERTS\nTIMEOUTocsp = 3")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("redirect = 1", '"redirect" is unsupported in client sections'), ("protocol = dns", "Protocol not supported"),
        ("protocol = proxy", "The configured protocol is not supported in the client mode"),
        ("protocol = SMTP", "protocol is not supported"), ("libwrap = yes", "libwrap is not supported"),
        ("exec = sh", "exec is not supported"), ("transparent = source", "transparent is not supported"),
        ("socket = a:SO_BINDTODEVICE=eth0", "socket is not supported"), ("cert = a.p12", "cert: a PKCS#12 file"),
        ("cert = a.pem\nkey = pkcs11:x", "key: a token"), ("cert =", "cert: the value is empty"),
        ("local = nohost.example", "Failed to resolve local address"), ("setuid = nobody-here", "Illegal UID"),
        ("setgid = nobody-here", "Illegal GID"), ("socket = r:IP_TOS=4", "Illegal socket option: this system"),
    ],
)  # fmt: skip
def test_refusals(line: str, said: str) -> None:
    (first,) = problems(line)
    assert first.startswith(said)


def test_identity() -> None:
    made = service("cert = a.pem\nkey = b.pem")
    assert (made.cert, made.key) == ("a.pem", "b.pem")
    made = service("key = b.pem")
    assert (made.cert, made.key) == ("", "")
    assert made.notes


@pytest.mark.parametrize(
    ("lines", "sni"),
    [("sni = a", "a"), ("sni =", ""), ("", None), ("protocolHost = a:1", "a"), ("protocolHost = 1\nsni = b", "b")],
)
def test_the_name_sent(lines: str, sni: str | None) -> None:
    assert service(lines).sni == sni


def test_delay_forces_prio() -> None:
    assert service("failover = rr").rotate
    made = service("failover = RR\ndelay = yes")
    assert (made.rotate, made.delay) == (False, True)


def test_limits() -> None:
    made = service("TIMEOUTconnect = 3\nTIMEOUTbusy = 300\nTIMEOUTidle = 60")
    assert (made.connect_limit, made.handshake_limit, made.idle_limit) == (3, 10, 60)
    assert "cut to 10 s" in made.notes[0]
    made = service("TIMEOUTconnect = 0\nTIMEOUTbusy = 2\nTIMEOUTidle = -1")
    assert (made.connect_limit, made.handshake_limit, made.idle_limit) == (1, 2, 43200)


def test_socket_options() -> None:
    lines = "socket = r:TCP_NODELAY=0\nsocket = a:SO_RCVBUF=4096\nsocket = r:TCP_NODELAY=1\nsocket = l:SO_LINGER=1:60"
    assert service(lines).socket_options == (("r", 6, 1, 1), ("a", 1, 8, 4096))


def test_others() -> None:
    made = service("local = ::1\nsessionResume = no", "cert = ${X}.pem")
    assert (made.local, made.resume) == ("::1", False)
    assert any("placeholder" in warning for warning in made.warnings)
    made = service("debug = 7\nservice = x\nsetuid = 5\nTIMEOUTclose = 0")
    assert len(made.notes) == 4
