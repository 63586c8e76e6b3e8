"""The scenarios, by what goes wrong."""

from tests.faults.scenarios import (  # noqa: F401 - they enter themselves into the registry
    closing,
    dnscrypt_keys,
    dnscrypt_loss,
    dnscrypt_relays,
    dnscrypt_tcp,
    hostile,
    load,
    mixture,
    outage,
    preference,
    servers,
    silence,
)
