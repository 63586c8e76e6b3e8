"""The short scenarios of the fault-injection suite, in the test suite: udp2tls meets their criteria."""

from __future__ import annotations

import pytest

from tests import authority
from tests.faults import registry, runner

pytestmark = [pytest.mark.peers, pytest.mark.slow]

# Latencies on a machine that does other things besides; what is right and wrong has no slack.
SLACK = 3.0


@pytest.mark.parametrize(
    "scenario", [pytest.param(one, id=one.name.replace(" ", "_")) for one in registry.scenarios() if one.quick]
)
def test_scenario(scenario: registry.Scenario, certs: authority.Authority) -> None:
    result = runner.run(scenario, "udp2tls", certs, scale=SLACK)
    print(result.figures)
    assert result.passed, result.figures
