"""What several test files share."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests import authority

# How long an example takes says what else the machine does; no test is about that.
settings.register_profile("udp2tls", deadline=None)
settings.load_profile("udp2tls")


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> authority.Authority:
    return authority.make(tmp_path_factory.mktemp("certs"))
