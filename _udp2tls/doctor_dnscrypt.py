"""What ``--doctor`` says of a DNSCrypt resolver: its certificates, both ways to it, and what to do.

Owns the words; ``checkup_dnscrypt`` does the work, ``doctor`` the lay-out. A resolver is
usable when one of its ways is, as forwarding uses it. What a certificate without a good
signature says is shown as a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from _udp2tls import box, certificate, config, identity
from _udp2tls.certificate import Offer
from _udp2tls.checkup import Tools, ms, rcode, words
from _udp2tls.checkup_dnscrypt import Checkup, Recorder, Way
from _udp2tls.config import UpstreamSpec
from _udp2tls.provider import LEAST, LEAST_RELAYED

# Prints one row: a label, the text, how far it is indented.
Row = Callable[[str, str, int], None]

_CLOCK = "set the clock if it is wrong, e.g. sudo timedatectl set-ntp true; if it is right, choose another resolver"
_SILENT = (
    "is the network up, are address and port right? Many networks let no other port than 443 through. A server may"
    " also say nothing to a provider's name that is not its own: get the stamp anew, or choose another resolver"
)
_SILENT_RELAY = (
    "the relay is down, or does not pass on to this server; name another relay. The server itself was not asked, so"
    " that it does not learn your address"
)
_UNSIGNED = (
    "get the stamp anew from the resolver's operator: its key is not the one that signed. If it is the same there,"
    " something on the way answers in the server's place"
)
_RCODES = {
    "REFUSED": "it does not serve you, or not the root zone; try --resolve NAME, or choose another resolver",
    "SERVFAIL": "it cannot resolve at the moment; if that lasts, choose another resolver",
}
_GOOD = ("NOERROR", "NXDOMAIN")


def report(spec: UpstreamSpec, tools: Tools, row: Row) -> tuple[str, str]:
    """Print what is found; return why it cannot be used and what to do, the first empty when it can."""
    checkup = Checkup(spec, tools)
    if spec.relay:
        row("relay", f"everything goes to {spec.relay}, nothing to {spec.host} itself", 4)
        if said := config.neighbours(spec):
            row("", said, 4)
    row("provider", identity.clean(spec.name), 4)
    row("key", spec.key.hex(), 4)
    udp = checkup.over_udp()
    _udp_rows(udp, checkup.provider, spec, tools, row)
    found = _certificate_rows(checkup.provider, tools, row)
    tcp = checkup.over_tcp()
    _tcp_rows(tcp, tools, row)
    if checkup.best is checkup.over_stream:
        found = _certificate_rows(checkup.over_stream, tools, row)
    if checkup.over_stream.keys is not None and checkup.provider.answer and not udp.certificate:
        checkup.over_udp_again(udp)
        row("UDP again", "with the certificate that came over TCP", 4)
        _answer_rows(udp, checkup.over_stream, spec, tools, row)
    return _verdict(udp, tcp, checkup.best, found, spec)


def _udp_rows(way: Way, provider: Recorder, spec: UpstreamSpec, tools: Tools, row: Row) -> None:
    if way.certificate:
        row("UDP", f"a certificate in {ms(way.certificate)}", 4)
        _answer_rows(way, provider, spec, tools, row)
    else:
        row("UDP", f"FAILED: {provider.refusal or f'no certificate: {_why(way, tools)}'}", 4)


def _answer_rows(way: Way, provider: Recorder, spec: UpstreamSpec, tools: Tools, row: Row) -> None:
    if not way.answer:
        row("", f"FAILED: no answer to a query: {_why(way, tools)}", 4)
        return
    again = provider.counts["retransmitted"]
    lost = f"; {again} packets were sent again" if again else ""
    row("", f"{_said(way.answer)}, in {ms(way.round_trip)}{lost}", 4)
    usual = LEAST_RELAYED if spec.relay else LEAST
    least = provider.least(spec.relay is not None, tools.clock())
    grown = f", {usual} until an answer had no room" if least > usual else ""
    row("padding", f"queries of at least {least} bytes{grown}", 4)
    if way.cut_short:
        row("", "the answer to the query for the root's DNSKEY has no room in a datagram", 4)


def _tcp_rows(way: Way, tools: Tools, row: Row) -> None:
    if way.step == "connect":
        row("TCP", f"FAILED: cannot connect: {_why(way, tools)}", 4)
        return
    brought = f"a certificate in {ms(way.certificate)}" if way.certificate else "no certificate that way"
    row("TCP", f"connected in {ms(way.connect)}, {brought}", 4)
    if way.answer:
        row("", f"{_said(way.answer)}, in {ms(way.round_trip)}", 4)
        row("connections", way.manners, 4)
    elif way.step == "answer":
        row("", f"FAILED: no answer to a query: {_why(way, tools)}", 4)
    else:
        row("", f"FAILED: {_why(way, tools)}", 4)


def _said(answer: bytes) -> str:
    return f"{rcode(answer)} to the query for the root's NS"


def _why(way: Way, tools: Tools) -> str:
    return words(way.error or TimeoutError(), tools.patience)


def _certificate_rows(provider: Recorder, tools: Tools, row: Row) -> list[Offer]:
    if not provider.answer:
        return []
    now = tools.wall()
    found = certificate.offers(provider.answer, provider.key, now, xsalsa20=not box.why_not(box.XSALSA20))
    best = certificate.best_of(found)
    for number, offer in enumerate(found, 1):
        one = offer.certificate
        row(f"certificate {number}", f"es_version {offer.es_version}" if offer.es_version else "none", 4)
        if one is not None:
            claim = "" if offer.signed else ", NOT SIGNED by the provider: a claim and no more"
            row("serial", f"{one.serial}{claim}", 6)
            row("cipher", box.NAMES[one.es_version], 6)
            row("valid", _validity(one, now), 6)
            row("key", one.fingerprint, 6)
        why = offer.why if offer.signed or one is None else "not signed by the provider's key"
        row("used", f"no: {why}" if why else "yes" if one == best else "no: there is a better one", 6)
    if any(offer.signed for offer in found):
        row("clock", _clock(found, now), 4)
    return found


def _validity(one: certificate.Certificate, now: float) -> str:
    begins, ends = (datetime.fromtimestamp(at, UTC) for at in (one.begins, one.ends))
    return identity.Certificate("", "", begins, ends).validity(datetime.fromtimestamp(now, UTC))


def _clock(found: Sequence[Offer], now: float) -> str:
    signed = [offer.certificate for offer in found if offer.signed and offer.certificate]
    if any(one.begins <= now <= one.ends for one in signed):
        return "this machine's agrees with the certificates"
    if all(now < one.begins for one in signed):
        return "this machine's is before the first certificate begins: it is slow, or the server's is fast"
    return "this machine's is past the certificates: it is fast, or they were left to expire"


def _verdict(
    udp: Way, tcp: Way, provider: Recorder, found: Sequence[Offer], spec: UpstreamSpec
) -> tuple[str, str]:  # fmt: skip
    codes = [rcode(way.answer) for way in (udp, tcp) if way.answer]
    if codes:
        if not any(code in _GOOD for code in codes):
            return f"it answers {codes[0]}", _RCODES.get(codes[0], "is it a resolver? Get the stamp anew")
        return "", _advice(udp, tcp, spec)
    if certificate.best_of(found):
        return (
            "there is a certificate, but no answer to a query",
            "it may be under attack, or overloaded; try again, and if that lasts choose another resolver",
        )
    if not provider.answer:
        return "no answer to the query for a certificate, neither over UDP nor over TCP", (
            _SILENT_RELAY if spec.relay else _SILENT
        )
    return provider.refusal or "no usable certificate", _remedy(provider, found)


def _advice(udp: Way, tcp: Way, spec: UpstreamSpec) -> str:
    if not udp.answer:
        tcp_first = "" if spec.prefer_tcp else "; write ?tcp after the stamp, to save a moment at the start"
        return f"over TCP alone: UDP to port {(spec.relay or spec).port} is blocked or dead{tcp_first}"
    if not tcp.answer:
        lacks = "answers that have no room in a datagram cannot be had, their askers get them cut short (TC)"
        return f"over UDP alone: {lacks}"
    return ""


def _remedy(provider: Recorder, found: Sequence[Offer]) -> str:
    if provider.answer[3] & 15:
        return "the server does not know the provider's name that the stamp has; get the stamp anew"
    usable = [one for one in found if one.certificate is not None]
    if usable and not any(one.signed for one in usable):
        return _UNSIGNED
    if any("needs the package" in one.why or "not allowed" in one.why for one in usable):
        return "install what is missing: pip install 'udp2tls[xsalsa20]', or choose another resolver"
    if any("clock" in one.why for one in usable):
        return _CLOCK
    if found and all(one.unknown for one in found):
        return "a newer version of udp2tls may know them; else choose another resolver"
    if not found and provider.answer[2] & 2:
        return "the certificates have no room in a datagram, and TCP, where they had, failed: see above"
    return "is this a DNSCrypt server? Get the stamp anew, or choose another resolver"
