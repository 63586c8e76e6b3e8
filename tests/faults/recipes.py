"""How each forwarder is configured: certificate verification on, no cache, the program's defaults for the rest.

Where defaults would hide what is looked for, they are raised: room for 2000 queries at
once, SERVFAIL instead of silence. Where a program has no order of preference among its
upstreams, it gets both and does with them what it does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests import authority
from tests.peers import programs

NAME = authority.NAME
CHECKOUT = Path(os.environ.get("UDP2TLS_CHECKOUT") or programs.CHECKOUT)
_LUA_SCRIPT = Path(__file__).with_name("udp_to_tcp.lua")


@dataclass(frozen=True)
class Plan:
    """What a forwarder shall do: listen on 127.0.0.1, ask these upstreams, the first preferably."""

    port: int
    upstreams: tuple[tuple[str, int], ...]
    ca_file: str
    folder: Path
    stamps: tuple[str, ...] = ()  # of DNSCrypt: after the upstreams
    bootstrap: int = 0  # the upstreams are two addresses of NAME; the resolver at this port on 127.0.0.1 knows them


@dataclass(frozen=True)
class Recipe:
    """Files to write, commands to run, one after the other."""

    commands: list[list[str]]
    files: dict[str, str] = field(default_factory=dict)


def udp2tls(plan: Plan) -> Recipe:
    hosts = plan.upstreams
    options = []
    if plan.bootstrap:
        hosts = ((NAME, hosts[0][1]),)
        options = ["--bootstrap", f"127.0.0.1:{plan.bootstrap}"]
    for host, port in hosts:
        options += ["--upstream", f"tls://{_bracketed(host)}:{port}#{NAME}"]
    for stamp in plan.stamps:
        options += ["--upstream", stamp]
    listen = ["--listen", f"127.0.0.1:{plan.port}", "--ca-file", plan.ca_file]
    return Recipe([[sys.executable, str(CHECKOUT / "udp2tls.py"), *listen, *options]])


def unbound(plan: Plan) -> Recipe:
    addresses = "\n".join(f"  forward-addr: {host}@{port}#{NAME}" for host, port in plan.upstreams)
    return Recipe([["unbound", "-d", "-p", "-c", "unbound.conf"]], {"unbound.conf": f"""
server:
  directory: "{plan.folder}"
  pidfile: ""
  username: ""
  chroot: ""
  use-syslog: no
  verbosity: 1
  num-threads: 1
  interface: 127.0.0.1@{plan.port}
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "iterator"
  qname-minimisation: no
  tls-cert-bundle: "{plan.ca_file}"
  msg-cache-size: 0
  rrset-cache-size: 0
  cache-max-ttl: 0
  cache-max-negative-ttl: 0
  outgoing-range: 8192
  num-queries-per-thread: 4096
  outgoing-num-tcp: 100
  incoming-num-tcp: 400
  infra-keep-probing: yes
  so-rcvbuf: 4m
forward-zone:
  name: "."
  forward-tls-upstream: yes
  forward-no-cache: yes
{addresses}
remote-control:
  control-enable: no
"""})  # fmt: skip


def stubby(plan: Plan) -> Recipe:
    upstreams = "".join(
        f'  - address_data: {host}\n    tls_port: {port}\n    tls_auth_name: "{NAME}"\n'
        for host, port in ((host.replace("::1", "0::1"), port) for host, port in plan.upstreams)  # as YAML wants it
    )
    return Recipe([["stubby", "-C", "stubby.yml", "-v", "3"]], {"stubby.yml": f"""
resolution_type: GETDNS_RESOLUTION_STUB
dns_transport_list:
  - GETDNS_TRANSPORT_TLS
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
tls_query_padding_blocksize: 128
round_robin_upstreams: 0
tls_ca_file: "{plan.ca_file}"
listen_addresses:
  - 127.0.0.1@{plan.port}
upstream_recursive_servers:
{upstreams}"""})  # fmt: skip


def dnsdist(plan: Plan) -> Recipe:
    servers = "".join(
        f'newServer({{address="{_bracketed(host)}:{port}", tls="openssl", subjectName="{NAME}", '
        f'caStore="{plan.ca_file}", validateCertificates=true, maxInFlight=1000, order={order}}})\n'
        for order, (host, port) in enumerate(plan.upstreams, 1)
    )
    return Recipe([["dnsdist", "--supervised", "--disable-syslog", "-C", "dnsdist.conf"]], {"dnsdist.conf": f"""
setACL({{"127.0.0.0/8"}})
setSecurityPollSuffix("")
setMaxTCPClientThreads(1)
addLocal("127.0.0.1:{plan.port}")
setServerPolicy(firstAvailable)
setServFailWhenNoServer(true)
{servers}"""})  # fmt: skip


def kresd(plan: Plan) -> Recipe:
    targets = ", ".join(
        f"{{'{host}@{port}', hostname='{NAME}', ca_file='{plan.ca_file}'}}" for host, port in plan.upstreams
    )
    return Recipe([["kresd", "-n", "-c", "kresd.conf", str(plan.folder)]], {"kresd.conf": f"""
net.listen('127.0.0.1', {plan.port}, {{ kind = 'dns' }})
user('root')
cache.open(10*MB, 'lmdb://{plan.folder}/cache')
modules.unload('ta_signal_query')
modules.unload('ta_update')
modules.unload('priming')
trust_anchors.remove('.')
policy.add(policy.all(policy.FLAGS('NO_CACHE')))
policy.add(policy.all(policy.TLS_FORWARD({{{targets}}})))
"""})  # fmt: skip


def smartdns(plan: Plan) -> Recipe:
    servers = "\n".join(
        f"server-tls {_bracketed(host)}:{port} -host-name {NAME} -tls-host-verify {NAME}"
        for host, port in plan.upstreams
    )
    return Recipe([["smartdns", "-f", "-p", "-", "-c", f"{plan.folder}/smartdns.conf"]], {"smartdns.conf": f"""
server-name faults
bind 127.0.0.1:{plan.port}
bind-tcp 127.0.0.1:{plan.port}
cache-size 0
cache-persist no
prefetch-domain no
serve-expired no
speed-check-mode none
dualstack-ip-selection no
response-mode fastest-response
log-level error
log-file {plan.folder}/smartdns.log
ca-file {plan.ca_file}
{servers}
"""})  # fmt: skip


def stunnel_and_lua(plan: Plan) -> Recipe:
    """Stunnel takes TCP on the port; the script takes UDP on it."""
    connect = "\n".join(f"connect = {host}:{port}" for host, port in plan.upstreams)
    return Recipe(
        [["stunnel4", "stunnel.conf"], ["lua5.3", str(_LUA_SCRIPT), str(plan.port), str(plan.port)]],
        {"stunnel.conf": f"""
foreground = yes
pid =
syslog = no
debug = 5
[dns]
client = yes
accept = 127.0.0.1:{plan.port}
{connect}
failover = prio
CAfile = {plan.ca_file}
verifyChain = yes
checkHost = {NAME}
"""},
    )  # fmt: skip


RECIPES: dict[str, Callable[[Plan], Recipe]] = {
    "udp2tls": udp2tls, "unbound": unbound, "stubby": stubby, "dnsdist": dnsdist, "kresd": kresd,
    "smartdns": smartdns, "stunnel+lua": stunnel_and_lua,
}  # fmt: skip


# What some can do besides DNS over TLS; scenarios that need it are not for the others.
ABILITIES = {"udp2tls": {"dnscrypt"}}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
