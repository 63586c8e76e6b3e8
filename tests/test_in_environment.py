"""in_environment: the four variables of containers."""

from __future__ import annotations

import pytest

from _udp2tls import in_environment
from _udp2tls.config import ConfigError, parse_upstream

DEFAULT = parse_upstream("tls://1.1.1.1#one.one.one.one")
EVERYWHERE = ["127.0.0.1:53", "[::1]:53"]


@pytest.mark.parametrize(
    ("environment", "listen", "optional", "upstream"),
    [
        ({}, EVERYWHERE, True, []),
        ({"HOST": " ", "PORT": "", "DNS_HOST": "", "DNS_PORT": " "}, EVERYWHERE, True, []),
        ({"PORT": "5353 "}, ["127.0.0.1:5353", "[::1]:5353"], True, []),
        ({"HOST": "127.0.0.2"}, ["127.0.0.2:53"], False, []),
        ({"HOST": "::1", "PORT": "5353"}, ["[::1]:5353"], False, []),
        ({"DNS_HOST": "8.8.8.8"}, EVERYWHERE, True, ["tls://8.8.8.8"]),
        ({"DNS_HOST": "2620:fe::fe", "DNS_PORT": "8853"}, EVERYWHERE, True, ["tls://[2620:fe::fe]:8853"]),
        ({"DNS_HOST": "dns.example"}, EVERYWHERE, True, ["tls://dns.example"]),
        ({"DNS_PORT": "8853"}, EVERYWHERE, True, ["tls://1.1.1.1:8853#one.one.one.one"]),
    ],
)
def test_the_four_variables_of_containers(
    environment: dict[str, str], listen: list[str], optional: bool, upstream: list[str]
) -> None:
    found, wish = in_environment.listen(environment)
    assert ([str(one) for one in found], wish) == (listen, optional)
    assert [str(spec) for spec in in_environment.upstreams(environment, DEFAULT)] == upstream


def test_a_bad_value_is_found_by_its_name() -> None:
    with pytest.raises(ConfigError, match="environment HOST, PORT: 'my-machine' is not an IP address"):
        in_environment.listen({"HOST": "my-machine"})
    with pytest.raises(ConfigError, match="environment DNS_HOST, DNS_PORT: port 'x' is not a number"):
        in_environment.upstreams({"DNS_PORT": "x"}, DEFAULT)
