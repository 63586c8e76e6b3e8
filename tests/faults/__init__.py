"""The fault-injection suite: the same scenarios, with the same fixed criteria, for udp2tls and for other forwarders.

    upstream      a DNS-over-TLS server whose faults are switched on and off while it runs
    connection    one connection to it: TLS, frames, and how it ends
    tampering     what an upstream may write besides, or instead of, the right answer
    knocks        the connection attempts a port gets, those included that nobody accepts
    client        programs that ask, and judge each answer
    forwarders    a forwarder under test: started, stopped, measured
    recipes       how each forwarder is configured
    stage         one scenario's upstreams and forwarder
    report        what a scenario found, and whether that is enough
    anonymous     DNSCrypt through relays: stamps, and whether the server saw anybody else
    registry      the scenarios by name
    scenarios     the scenarios themselves
    results       the table

``python -m tests.faults`` runs it; see README.md.
"""
