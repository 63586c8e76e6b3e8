"""The scenarios, by what goes wrong."""

from tests.faults.scenarios import (  # noqa: F401 - they enter themselves into the registry
    closing,
    hostile,
    load,
    mixture,
    outage,
    preference,
    servers,
    silence,
)
