"""Reading stunnel.conf: stunnel's language becomes configurations of udp2tls.

    parser     the grammar, with line numbers
    addresses  [host:]port, as stunnel writes it
    values     what each option's value may be
    options    a table: honoured, ignored with the reason, refused with the remedy
    given      the settings of a section, its defaults first
    section    a section's settings become a Service
    meaning    a whole file: services, the process, every mistake
    explain    the report of --check
    service    what a client section asks for, in plain values
    strength   whether TLS as asked for can be had
    contexts   TLS contexts of a service
    names      checkHost, checkIP, checkEmail against a certificate
    pins       verifyPeer: the certificate itself, by subject and key
    verify     what is checked after the handshake; TLS sessions
    adopt      all of it together: a file becomes Configs

It may import ``udp2tls`` and ``_udp2tls``; nothing there imports it but the front door,
when a file is named.
"""
