"""What is in contrib: systemd has nothing to say against the units, the program lives under what they forbid,
and the image's steps, command and health check do what they say, as far as that shows without an engine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from _udp2tls import cli
from tests import authority
from tests.peers import asking, programs, scripted
from tests.peers.test_trust import pin_of

pytestmark = [pytest.mark.peers, pytest.mark.slow]

CONTRIB = programs.CHECKOUT / "contrib"
INSTALLED = "/opt/udp2tls/bin/udp2tls"
NOBODY = 65534
# What we reach is 1.2 with the socket unit and 1.6 without; 10 is a service that may do everything.
MOST_EXPOSURE = {"with": 1.3, "without": 1.7}

# Starts a program as systemd would for our unit: the sockets named first at 3 and on, and the system calls,
# address families and memory that the unit forbids forbidden. A system call out of bounds kills, so that it shows.
_CONFINE = """
import ctypes, fcntl, os, sys
sockets, calls, families, command = [part.split() for part in sys.argv[1:4]] + [sys.argv[4:]]
for place, high in enumerate([fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sockets], 3):
    os.dup2(high, place)
if sockets:
    os.environ['LISTEN_PID'], os.environ['LISTEN_FDS'] = str(os.getpid()), str(len(sockets))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
if calls:
    seccomp = ctypes.CDLL('libseccomp.so.2')
    seccomp.seccomp_init.restype = ctypes.c_void_p

    class Is(ctypes.Structure):
        _fields_ = [('argument', ctypes.c_uint), ('how', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]

    def load(otherwise, rules):
        context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(otherwise)))
        for action, call, tests in rules:
            number = seccomp.seccomp_syscall_resolve_name(call.encode())
            if number >= 0:  # else another architecture's
                array = (Is * len(tests))(*tests)
                assert not seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(tests), array)
        assert not seccomp.seccomp_load(context)

    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050000
    equal, masked = 4, 7
    # 97 is EAFNOSUPPORT, 2 PROT_WRITE, 4 PROT_EXEC; first what is refused, for then seccomp(2) may be, too.
    load(allow, [
        *((refuse | 97, 'socket', [Is(0, equal, family)]) for family in range(46) if str(family) not in families),
        (kill, 'mmap', [Is(2, masked, 6, 6)]), (kill, 'mprotect', [Is(2, masked, 4, 4)]),
        (kill, 'pkey_mprotect', [Is(2, masked, 4, 4)]),
    ])
    load(kill, [(allow, call, []) for call in calls])
os.execv(command[0], command)
"""

Unit = dict[tuple[str, str], list[str]]


def unit(name: str) -> Unit:
    """Read a unit: values by section and key, in their order; an empty one forgets those before it."""
    found: Unit = {}
    section = ""
    for line in (CONTRIB / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.setdefault((section, key), []).append(value)
    return found


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        [programs.find("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=60, check=False,
        env=programs.clean_environment(LC_ALL="C"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["with", "without"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Give the service as it is installed, with the socket unit or without; its program exists."""
    service = tmp_path / "udp2tls.service"
    text = (CONTRIB / service.name).read_text(encoding="utf-8")
    service.write_text(text.replace(INSTALLED, sys.executable))
    if request.param == "with":
        shutil.copy(CONTRIB / "udp2tls.socket", tmp_path)
    else:
        (tmp_path / "udp2tls.service.d").mkdir()
        shutil.copy(CONTRIB / "without-socket.conf", tmp_path / "udp2tls.service.d")
    return service, request.param


def test_systemd_has_no_complaint(installed: tuple[Path, str]) -> None:
    service, _ = installed
    units = sorted(str(path) for path in service.parent.iterdir() if path.is_file())
    assert analyze("verify", "--man=no", *units) == ""


def test_the_service_is_exposed_to_little(installed: tuple[Path, str]) -> None:
    service, which = installed
    said = analyze("security", "--no-pager", "--offline=true", str(service))
    found = re.search(r"Overall exposure level for udp2tls.service: ([0-9.]+)", said)
    assert found, said
    print(f"exposure level {which} the socket unit: {found[1]} of 10")
    assert float(found[1]) <= MOST_EXPOSURE[which], said


def test_bad_configuration_is_not_started_again() -> None:
    service = unit("udp2tls.service")
    status = programs.run_forwarder("--no-such-option").returncode
    assert service["Service", "RestartPreventExitStatus"] == [str(status)]
    assert service["Service", "Restart"] == ["on-failure"]


def system_calls(rules: Sequence[str]) -> set[str]:
    """Return what SystemCallFilter= lines allow, groups resolved as the installed systemd does."""
    allowed = set(_group("@default"))
    for rule in rules:
        names = {name for item in rule.lstrip("~").split() for name in (_group(item) if item[0] == "@" else [item])}
        allowed = allowed - names if rule.startswith("~") else allowed | names
    return allowed | set(_group("@default"))


def _group(name: str) -> Iterator[str]:
    for line in analyze("syscall-filter", name).splitlines()[1:]:
        item = line.strip()
        if item.startswith("@"):
            yield from _group(item)
        elif item and not item.startswith("#"):
            yield item


def unprivileged(user: int = NOBODY) -> list[str]:
    """Return the beginning of a command that goes on as somebody who may write nothing.

    Reading is no matter here: the tests' files and Python may lie in root's folder.
    """
    if os.geteuid() != 0:
        return []
    return [
        programs.find("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups",
        "--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
    ]  # fmt: skip


@pytest.fixture
def nothing_to_write(tmp_path: Path) -> Path:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    return folder


def bound(datagram: bool, host: str, port: int) -> socket.socket:
    """Bind as systemd does for our socket unit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((host, port))
    if not datagram:
        sock.listen(16)
    return sock


def wanted_sockets() -> list[tuple[bool, str]]:
    """Return (UDP, address) in the order in which systemd passes the sockets: the file's."""
    found = []
    for (_, key), values in unit("udp2tls.socket").items():
        assert key not in ("Accept", "ListenSequentialPacket")
        if key in ("ListenDatagram", "ListenStream"):
            found += [(key == "ListenDatagram", value) for value in values]
    return found


def test_both_protocols_listen_on_port_53_of_both_loopbacks_and_nowhere_else() -> None:
    addresses = {f"{host}:53" for host in ("127.0.0.1", "[::1]")}
    assert sorted(wanted_sockets()) == sorted((kind, at) for kind in (True, False) for at in addresses)
    assert unit("udp2tls.socket")["Socket", "BindIPv6Only"] == ["ipv6-only"]


def test_the_service_serves_its_sockets_under_everything_the_unit_forbids(
    certs: authority.Authority, tmp_path: Path, nothing_to_write: Path
) -> None:
    service = unit("udp2tls.service")
    program, file = shlex.split(service["Service", "ExecStart"][0])
    assert (program, cli.parser().parse_args([file]).file) == (INSTALLED, "/etc/udp2tls.toml")
    families = [str(int(getattr(socket, name))) for name in service["Service", "RestrictAddressFamilies"][0].split()]
    calls = system_calls(service["Service", "SystemCallFilter"])
    assert "socket" in calls
    assert not calls & {"setuid", "chroot", "mount", "ptrace", "setpriority"}
    port = programs.free_port()
    hosts = ["127.0.0.1", "::1"]
    with (
        scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ExitStack() as stack,
    ):
        configuration = tmp_path / "udp2tls.toml"
        configuration.write_text(
            # A name to look up, which takes threads, and a pin, which takes all of cryptography.
            f'upstream = "tls://localhost:{server.port}#{authority.NAME}"\nca_file = "{certs.ca_file}"\n'
            f'pin = "{pin_of(certs.server_cert)}"\n'
        )
        socks = [
            stack.enter_context(bound(datagram, at.removesuffix(":53").strip("[]"), port))
            for datagram, at in wanted_sockets()
        ]
        manager.bind(str(tmp_path / "notify"))
        (tmp_path / "notify").chmod(0o666)
        manager.settimeout(20)
        command = [
            *unprivileged(), sys.executable, "-c", _CONFINE, " ".join(str(sock.fileno()) for sock in socks),
            " ".join(sorted(calls)), " ".join(families), *programs.command_line(str(configuration)),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, env={"PATH": os.environ["PATH"], "LISTEN_FDNAMES": ":".join(["dns"] * len(socks)),
                          "NOTIFY_SOCKET": str(tmp_path / "notify")},
            cwd=nothing_to_write, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            pass_fds=[sock.fileno() for sock in socks],
        )  # fmt: skip
        try:
            assert said_to(manager, process) == b"READY=1"
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
            if os.geteuid() == 0:
                assert re.search(rf"^Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t", status, re.MULTILINE)
            served_everywhere(hosts, port, "before")
            reload = shlex.split(service["Service", "ExecReload"][0].replace("$MAINPID", str(process.pid)))
            assert subprocess.run(reload, check=False, timeout=10).returncode == 0
            served_everywhere(hosts, port, "after")
            assert len(server.queries) >= 8
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            _, said = process.communicate(timeout=10)
        finally:
            process.kill()
            process.wait(10)
    assert process.returncode == 0, said
    assert said.count("was read anew") == 1, said
    assert {f"listening on {at}:{port}" in said for at in ("127.0.0.1", "[::1]")} == {True}
    assert list(nothing_to_write.iterdir()) == []


def said_to(manager: socket.socket, process: subprocess.Popen[str]) -> bytes:
    """Return what the service manager is told first; fails when the program ends without a word."""
    manager.settimeout(0.2)
    for _ in range(100):
        try:
            return manager.recv(100)
        except TimeoutError:
            if process.poll() is not None:
                break
    process.kill()
    raise AssertionError(f"status {process.wait(10)}: {process.communicate(timeout=10)[1]}")


def served_everywhere(hosts: Sequence[str], port: int, when: str) -> None:
    for number, host in enumerate(hosts):
        for ask in asking.ask_udp, asking.ask_tcp:
            message = asking.make_query(f"{ask.__name__}.{when}.n{number}.test.example")
            assert asking.is_right(message, ask(port, message, host)), f"{ask.__name__} {host}"


@dataclass(frozen=True)
class Step:
    """One instruction of a Containerfile, in its stage."""

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def array(self) -> list[str]:
        """The exec form, with what stands before it cut off."""
        found: list[str] = json.loads(self.text[self.text.index("[") :])
        return found


def steps() -> list[Step]:
    found: list[Step] = []
    stage = -1
    for line in (CONTRIB / "Containerfile").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert not line.endswith("\\"), "this reader knows no continued lines"
            name, _, text = line.partition(" ")
            stage += name == "FROM"
            found.append(Step(stage, name, text))
    return found


def the(name: str) -> Step:
    """Return the last stage's only instruction of this name."""
    (step,) = (step for step in steps() if step.name == name and step.stage == 1)
    return step


def variables() -> dict[str, str]:
    return dict(word.split("=", 1) for step in steps() if step.name == "ENV" for word in step.words)


@dataclass(frozen=True)
class Image:
    """What the image would hold, under other paths: /opt/udp2tls and /etc/udp2tls.toml."""

    opt: Path
    toml: Path

    def place(self, text: str) -> str:
        return text.replace("/opt/udp2tls", str(self.opt)).replace("/etc/udp2tls.toml", str(self.toml))

    def environment(self, **more: str) -> dict[str, str]:
        given = {name: self.place(value).replace("$PATH", os.environ["PATH"]) for name, value in variables().items()}
        return given | more


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Carry out the Containerfile's COPY and RUN lines in folders of ours."""
    folder = tmp_path_factory.mktemp("image")
    made = Image(folder / "opt", folder / "udp2tls.toml")
    source = folder / "src"
    source.mkdir()
    for step in steps():
        if step.name == "COPY" and not step.text.startswith("--from=build"):
            *names, target = step.words
            for name in names:
                path = programs.CHECKOUT / name
                to = source if target == "./" else made.toml if target.startswith("/etc") else source / target
                if path.is_dir():
                    shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(path, to)
        elif step.name == "RUN":
            environment = programs.clean_environment()
            environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
            done = subprocess.run(
                ["/bin/sh", "-c", made.place(step.text)], cwd=source, env=environment, capture_output=True, text=True,
                timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"
    return made


@contextmanager
def contained(image: Image, folder: Path, environment: Mapping[str, str], *options: str) -> Iterator[programs.Program]:
    """Run the image's command as its user, confined to reading; ``options`` come after the image's name."""
    entry = [image.place(word) for word in the("ENTRYPOINT").array]
    entry[0] = str(image.opt / "bin" / entry[0])
    user = int(the("USER").text.partition(":")[0])
    assert user != 0
    command = [*unprivileged(user), *entry, *options]
    program = programs.Program(
        "container", command, folder, int(environment["PORT"]), lambda program: "listening on" in program.log,
        environment,
    )  # fmt: skip
    program.log_file = folder.parent / "container.log"
    with program:
        yield program


def healthy(image: Image, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = the("HEALTHCHECK").array
    return subprocess.run(
        [str(image.opt / "bin" / command[0]), *command[1:]], env=environment, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip


def test_the_image_says_what_it_serves() -> None:
    given = variables()
    assert {key: given[key] for key in ("HOST", "PORT", "DNS_HOST", "DNS_PORT")} == {
        "HOST": "0.0.0.0", "PORT": "5353", "DNS_HOST": "1.1.1.1", "DNS_PORT": "853",
    }  # fmt: skip
    assert sorted(the("EXPOSE").words) == [f"{given['PORT']}/tcp", f"{given['PORT']}/udp"]
    assert given["PYTHONUNBUFFERED"] == "1"
    for step in steps():
        if step.name == "FROM":
            assert step.text.startswith("python:3."), "no registry's name"
        if step.name == "COPY" and step.text.startswith("--from"):
            assert step.words == ["--from=build", "/opt/udp2tls", "/opt/udp2tls"]


def test_the_image_accepts_its_own_environment_and_serves_private_networks(image: Image) -> None:
    entry = [image.place(word) for word in the("ENTRYPOINT").array]
    for options, clients in (
        ([], "this machine and 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"),
        (["--allow", "192.0.2.0/24"], "this machine and 192.0.2.0/24"),
    ):
        done = subprocess.run(
            [str(image.opt / "bin" / entry[0]), *entry[1:], *options, "--check"], env=image.environment(),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "listen    0.0.0.0:5353 (UDP and TCP)" in done.stdout
        assert "upstream  1. 1.1.1.1 port 853, certificate must be for 1.1.1.1" in done.stdout
        assert f"clients   {clients}\n" in done.stdout


def test_the_image_answers_is_healthy_and_stops(
    certs: authority.Authority, image: Image, nothing_to_write: Path
) -> None:
    with scripted.Server(scripted.serve, scripted.good_context(certs)) as server:
        environment = image.environment(
            HOST="127.0.0.1", PORT=str(programs.free_port()), DNS_HOST="127.0.0.1", DNS_PORT=str(server.port)
        )
        assert healthy(image, environment).returncode != 0, "nothing runs yet"
        with contained(image, nothing_to_write, environment, "--ca-file", certs.ca_file) as program:
            assert healthy(image, environment).returncode == 0
            assert server.accepted == 0, "health is asked of the program alone"
            served_everywhere(["127.0.0.1"], program.port, "now")
            assert len(server.queries) >= 2
            program.stop()
            assert program.process.returncode == 0, program.log
        assert list(nothing_to_write.iterdir()) == []


def test_the_image_serves_when_no_upstream_can_be_had(image: Image, nothing_to_write: Path) -> None:
    environment = image.environment(
        HOST="::1", PORT=f"{programs.free_port()} ", DNS_HOST="127.0.0.1", DNS_PORT=str(programs.free_port())
    )
    with contained(image, nothing_to_write, environment, "--timeout", "1") as program:
        assert asking.rcode_of(asking.ask_udp(program.port, asking.make_query("www.test.example"), "::1")) == (
            asking.SERVFAIL
        )
        done = healthy(image, environment)
        assert done.returncode == 0, done.stderr
