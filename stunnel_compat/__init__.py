"""Reading stunnel.conf: the room where stunnel's language will become a udp2tls Config.

It will hold ``parser`` (the grammar, with line numbers), ``options`` (a table: honoured,
ignored with the reason, refused with the remedy) and ``verify`` (verification exactly as
stunnel does it). It may import ``udp2tls`` and ``_udp2tls``; nothing there imports it.
This version reads no stunnel.conf.
"""
