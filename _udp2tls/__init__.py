"""Everything of udp2tls that needs neither a socket nor a clock.

The rooms, from the wire upwards:

    wire       DNS messages as bytes: what is in them, error answers, truncation
    edns       the OPT record, hop by hop: padding, keepalive, extended errors
    codec      the contract every connection protocol here keeps, and its errors
    framing    two-byte length framing (RFC 1035 section 4.2.2)
    tls        TLS as a layer over another codec; contexts, names, pins, resumption
    pending    the queries that wait for an answer, and who waits for them
    upstream   one upstream: its addresses, what was learned about it; makes codecs
    link       one connection to an upstream, without its socket
    delivery   which connection a query goes to, and which to open or give up
    config     what the user asked for, checked
    cli        command line and environment become one Config
    toml       a TOML file becomes command-line options
    log        one function per event
    demo       an embedded resolver with a throwaway certificate

Imports point one way: ``stunnel_compat -> udp2tls -> _udp2tls``. Nothing here
imports ``udp2tls``, ``socket``, ``selectors`` or ``time``: bytes come in as
arguments, and so does the time.
"""

__version__ = "0.1.0"
