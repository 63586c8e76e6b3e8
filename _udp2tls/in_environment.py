"""What the environment says: HOST, PORT, DNS_HOST and DNS_PORT, as containers have them.

Owns the meaning of the four, which is that of dns-over-tls-proxy. Empty is as good as not there.
"""

from __future__ import annotations

from collections.abc import Mapping

from _udp2tls import config
from _udp2tls.config import Endpoint, UpstreamSpec


def listen(environment: Mapping[str, str]) -> tuple[tuple[Endpoint, ...], bool]:
    """Return where to listen, and whether that is but a wish: see ``Config.listen_optional``; raises ConfigError."""
    host, port = environment.get("HOST", "").strip(), environment.get("PORT", "").strip()
    if host:
        bare = f"[{host}]" if ":" in host else host
        return (config.parse_endpoint(f"{bare}:{port or config.DNS_PORT}", "environment HOST, PORT"),), False
    default = config.DEFAULT_LISTEN
    if port:
        number = config.parse_endpoint(f"127.0.0.1:{port}", "environment PORT").port
        return tuple(Endpoint(endpoint.host, number) for endpoint in default), True
    return default, True


def upstreams(environment: Mapping[str, str], default: UpstreamSpec) -> tuple[UpstreamSpec, ...]:
    """Return whom to ask, nobody when it does not say; ``default`` is who is meant by a port alone."""
    host, port = environment.get("DNS_HOST", "").strip(), environment.get("DNS_PORT", "").strip()
    if not host and not port:
        return ()
    bare = f"[{host}]" if ":" in host else host
    spec = config.parse_upstream(
        f"tls://{bare or default.host}:{port or config.DOT_PORT}", "environment DNS_HOST, DNS_PORT"
    )
    return (spec if host else UpstreamSpec(spec.host, spec.port, default.name),)
