"""Everything of udp2tls that neither waits nor reads a clock.

The rooms, from the wire upwards:

    wire       DNS messages as bytes: what is in them, error answers
    edns       the OPT record, hop by hop: padding, keepalive, extended errors, truncation
    codec      the contract every connection protocol here keeps, and its errors
    framing    two-byte length framing (RFC 1035 section 4.2.2)
    tls        TLS as a layer over another codec; contexts, names, pins, resumption
    box        DNSCrypt's boxes: ciphers, keys, padding
    xwing      DNSCrypt's es_version 3: X-Wing secrets and tickets
    certificate  DNSCrypt's certificates: asked for, read, chosen
    exchange   the certificate query of one DNSCrypt connection
    provider   what outlives a DNSCrypt connection: keys, certificate, what was learned
    relay      what stands before a DNSCrypt packet so that a relay passes it on
    dnscrypt   DNSCrypt over UDP
    dnscrypt_tcp  DNSCrypt over TCP
    direct     a certificate asked of a DNSCrypt server itself, where no relay brings it
    resolver   a DNSCrypt resolver as an upstream, or rather two: UDP, TCP
    pending    the queries that wait for an answer, and who waits for them
    upstream   one upstream: its addresses, what was learned about it; makes codecs
    path       what is known about one address of an upstream
    pace       whether a server works on one query at a time, by how it answers when nothing is wrong
    link       one connection to an upstream, without its socket
    dialer     which connections to open, and when
    hedge      which queries on a silent connection are asked once more on another
    opinions   queries that one upstream refused and another shall answer
    delivery   which connection a query goes to, and what when that one ends
    surroundings  whether the machine slept or its network changed
    stream     a TCP connection and its codec: bytes from one to the other
    moderation  how long the loop pauses, so that queries come in batches
    loop       what the parts share of a turn: time, next deadline, counters
    mmsg       many datagrams in one system call
    listener   a UDP listener: how datagrams are read and answers written
    clients    queries in over UDP and TCP, answers out
    answers    what comes back on a link goes to who asked
    links      batches of queries out to the upstreams, and their connections
    service    one configuration at work: all of the above together
    naming     looking up names while the loop goes on
    lookup     an upstream's address through encrypted resolvers
    config     what the user asked for, checked
    stamps     DNS stamps, sdns://...: text and binary form
    stamp_fields  what a DNS stamp says, and what each field of it may hold
    stamp_json    DNS stamps as JSON, and what --stamp prints
    minisign   whether a file is what the holder of a key signed
    lists      a resolver list becomes names and stamps
    sources    a signed list, kept in a file and renewed
    download   one file over HTTPS, for a thread
    refresh    which source is downloaded when, in a thread of its own
    inquiry    asking the running forwarder from another thread
    renewal    what a renewed list changes in what runs
    toml       a TOML file becomes command-line options
    toml_document  a TOML file's data, and where in its text each part stands
    tables     dnscrypt-proxy's tables: names, lists and routes, as a TOML file says them
    catalog    which servers and relays there are by name
    nearness   whether two addresses may have one operator
    routes     through which relays a server is asked
    choice     which upstreams names, requirements and routes come to
    listing    what --list prints
    process    log file, pid file, another user, a jail
    daemon     running until told to stop: signals, readiness, reading anew
    supervisor  which worker is started, told or started again, and when
    workers    several processes on one port: their sockets, forks and signals
    cli        command line, file and environment become one Config
    in_environment  what HOST, PORT, DNS_HOST and DNS_PORT say
    log        one function per event
    doctor     what --doctor prints: each upstream, the clock, the listening addresses
    checkup    one address of an upstream, tried step by step
    doctor_dnscrypt    what --doctor prints of a DNSCrypt resolver
    checkup_dnscrypt   a DNSCrypt resolver, tried step by step
    identity   certificates in words, and what to do when one is refused
    nssm       what --nssm prints: the commands that make a Windows service of it
    selector   what waits for sockets
    system     the one room that makes sockets, and what else is asked of the system
    demo       an embedded resolver with a throwaway certificate

Imports point one way: ``stunnel_compat -> udp2tls -> _udp2tls``. Nothing here imports
``udp2tls`` or ``time``, nothing but ``system`` and ``selector`` imports ``socket`` or ``selectors``:
sockets are given, bytes come in as arguments, and so does the time.
"""

__version__ = "0.1.0"
RELEASED = "2026-11-25"  # set with the version: a clock that shows an earlier day is wrong
