"""What several test files share."""

from __future__ import annotations

import pytest

from tests import authority


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> authority.Authority:
    return authority.make(tmp_path_factory.mktemp("certs"))
