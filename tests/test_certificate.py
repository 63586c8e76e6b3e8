"""certificate: only what the provider signed counts, the best of it is chosen, and why none is left is said."""

from __future__ import annotations

from dataclasses import replace

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import box, certificate, wire
from _udp2tls.certificate import Certificate, NoCertificate, choose
from tests.provider import DAY, NAME, NOW, Provider, Resolver, bytes_of, record, reply, strings

ID = b"\xab\xcd"
PROVIDER = Provider()
KEY = Resolver().key
ASKED = certificate.query(NAME, ID)
needs_es1 = pytest.mark.skipif(bool(box.why_not(1)), reason=box.why_not(1))
needs_es3 = pytest.mark.skipif(bool(box.why_not(3)), reason=box.why_not(3))


def chosen(*certificates: bytes, now: float = NOW, **options: bool) -> Certificate:
    return choose(reply(ASKED, *certificates), PROVIDER.public, now, **options)


def refusal(*certificates: bytes, now: float = NOW, **options: bool) -> str:
    with pytest.raises(NoCertificate) as caught:
        chosen(*certificates, now=now, **options)
    assert not caught.value.truncated
    return str(caught.value)


# -- the query --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NAME, NAME + ".", "cleanbrowsing.org", "2.dnscrypt.default.ns1.adguard.com"])
def test_the_query_asks_for_the_name_as_given(name: str) -> None:
    asked = certificate.query(name, ID)
    record = dnslib.DNSRecord.parse(asked)
    assert (record.header.id, record.header.rd, record.header.qr) == (0xABCD, 1, 0)
    assert str(record.q.qname) == name.removesuffix(".") + "."
    assert (record.q.qtype, record.q.qclass) == (dnslib.QTYPE.TXT, 1)
    assert wire.parse_query(asked) == (len(asked), 0)
    assert len(certificate.query(NAME, ID)) == 46


def test_a_padded_query_has_the_size_asked_for() -> None:
    for size in (480, 512, 1252, 3200, len(ASKED) + 15):
        asked = certificate.query(NAME, ID, size=size)
        assert len(asked) == size
        end, opt = wire.parse_query(asked)
        assert end == opt == len(ASKED)
        assert [one.rtype for one in dnslib.DNSRecord.parse(asked).ar] == [wire.TYPE_OPT]
    for size in (0, 45, len(ASKED), len(ASKED) + 14):
        assert certificate.query(NAME, ID, size=size) == ASKED


def test_names_at_the_limits() -> None:
    longest = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 61))
    assert wire.question_end(certificate.query(longest, ID)) == 12 + 255 + 4
    for bad in ("", ".", "a..b", "a" * 64, longest + "d", ".a", "2.dnscrypt-cert.bücher.example"):
        with pytest.raises(ValueError, match="not the name"):
            certificate.query(bad, ID)


def test_nothing_in_a_name_is_an_escape() -> None:
    assert b"\x06a\\046b\0" in certificate.query("a\\046b", ID)


# -- the answer -------------------------------------------------------------------------------------


def test_only_what_answers_the_query_is_an_answer() -> None:
    good = reply(ASKED, PROVIDER.sign(KEY))
    assert certificate.is_answer(ASKED, good)
    assert certificate.is_answer(ASKED, good.replace(b"dnscrypt", b"DNSCrypt"))
    assert certificate.is_answer(certificate.query(NAME, ID, size=480), good)
    other = reply(certificate.query("2.dnscrypt-cert.other.example", ID), PROVIDER.sign(KEY))
    for bad in (
        b"", good[:20], b"\0" + good[1:], ASKED, other, good[:2] + b"\x91\0" + good[4:],
        good[:4] + b"\0\0" + good[6:], good[:4] + b"\0\2" + good[6:],
        good.replace(b"\0\x10\0\1", b"\0\1\0\1", 1),
    ):  # fmt: skip
        assert not certificate.is_answer(ASKED, bad)


def test_the_strings_of_a_record_are_joined_and_stay_bytes() -> None:
    data = bytes(range(256)) * 3 + b'\\"\\046'
    for size in (1, 7, 124, 255):
        whole = record(strings(data, size))
        assert certificate.records(reply(ASKED, others=(whole,))) == [data]


def test_every_byte_of_a_certificate_survives() -> None:
    """dnslib writes what a server would, and what is in the key or signature does not matter."""
    for number in range(40):
        signed = PROVIDER.sign(bytes_of(number)(32), bytes((number * 6,)) + b"1234567")
        answer = dnslib.DNSRecord.parse(ASKED).reply()
        answer.add_answer(dnslib.RR(NAME, dnslib.QTYPE.TXT, rdata=dnslib.TXT([signed])))
        packed = answer.pack()
        assert certificate.is_answer(ASKED, packed)
        assert certificate.records(packed) == [signed]
        assert choose(packed, PROVIDER.public, NOW).magic[0] == number * 6


def test_records_of_other_kinds_are_passed_over() -> None:
    others = (
        record(b"\1a\0", 5), record(strings(PROVIDER.sign(KEY, serial=9)), 46), record(b"", 16),
        record(strings(b"v=spf1 -all")), record(b"\xffshort"), record(b"\xc0\0\2\1", 1, b"\1a\2bc\0"),
        record(strings(PROVIDER.sign(KEY, serial=8)))[:4] + b"\0\3" + record(strings(PROVIDER.sign(KEY)))[6:],
    )  # fmt: skip
    answer = reply(ASKED, PROVIDER.sign(KEY, serial=4), others=others)
    assert choose(answer, PROVIDER.public, NOW).serial == 4


def test_an_answer_that_was_cut_short_is_good_for_what_is_whole() -> None:
    whole = reply(ASKED, PROVIDER.sign(KEY, serial=1), PROVIDER.sign(KEY, serial=2), flags=b"\x83\0")
    assert choose(whole, PROVIDER.public, NOW).serial == 2
    second = len(whole) - 137
    for end in range(second, len(whole)):
        assert choose(whole[:end], PROVIDER.public, NOW).serial == 1
    for end in range(12, second):
        with pytest.raises(NoCertificate, match="cut short") as caught:
            choose(whole[:end], PROVIDER.public, NOW)
        assert caught.value.truncated
    with pytest.raises(NoCertificate, match="no certificate and was cut short") as caught:
        choose(reply(ASKED, flags=b"\x83\0"), PROVIDER.public, NOW)
    assert caught.value.truncated


def test_a_forged_answer_costs_few_signature_checks() -> None:
    forged = replace(PROVIDER, seed=b"x" * 32).sign(KEY)
    answer = reply(ASKED, *[forged] * 400, PROVIDER.sign(KEY))
    assert len(certificate.records(answer)) == 24


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 3), st.booleans())
def test_hostile_answers_hold_no_certificate(tail: bytes, count: int, tc: bool) -> None:
    bare = reply(ASKED, flags=b"\x83\0" if tc else b"\x81\0")
    answer = bare[:6] + count.to_bytes(2, "big") + bare[8:] + tail
    assert certificate.is_answer(ASKED, answer)
    with pytest.raises(NoCertificate):
        choose(answer, PROVIDER.public, NOW)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_anything_may_be_asked_whether_it_is_an_answer(message: bytes) -> None:
    assert not certificate.is_answer(ASKED, message)
    certificate.records(message)


@settings(max_examples=100)
@given(st.binary(max_size=1400), st.integers(0, 5))
def test_hostile_certificates_are_refused(data: bytes, es_version: int) -> None:
    refusal(b"DNSC" + es_version.to_bytes(2, "big") + data)
    refusal(data)


# -- the signature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("es_version", [2, pytest.param(3, marks=needs_es3)])
def test_every_flipped_byte_that_is_signed_is_refused(es_version: int) -> None:
    signed = Resolver(es_version).certificate(PROVIDER)
    assert chosen(signed).es_version == es_version
    for at in (*range(4), *range(8, len(signed), 1 if es_version == 2 else 11)):
        refusal(signed[:at] + bytes((signed[at] ^ 1 << at % 8,)) + signed[at + 1 :])
    for size in range(0, len(signed), 1 if es_version == 2 else 11):
        refusal(signed[:size])


def test_extensions_are_signed_and_otherwise_nothing() -> None:
    signed = PROVIDER.sign(KEY, extensions=b"whatever")
    assert chosen(signed).key == KEY
    assert "not signed" in refusal(signed[:-1])
    assert "not signed" in refusal(signed + b"\0")


def test_another_providers_certificate_is_refused_and_the_user_told_why() -> None:
    said = refusal(replace(PROVIDER, seed=b"x" * 32).sign(KEY))
    assert said.startswith("no usable certificate: a certificate is not signed by the provider's key: the stamp is")


def test_a_provider_key_that_is_none_is_an_error_of_the_callers() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        choose(reply(ASKED), b"short", NOW)


# -- the choice -------------------------------------------------------------------------------------


def test_what_is_in_a_certificate() -> None:
    one = chosen(PROVIDER.sign(KEY, b"MAGICMAG", minor=1, serial=0xFFFFFFFF, begins=NOW - 1, ends=NOW + 1))
    assert one == Certificate(2, 1, KEY, b"MAGICMAG", 0xFFFFFFFF, NOW - 1, NOW + 1)


BETTER = [
    ({"serial": 1, "ends": NOW + 9 * DAY}, {"serial": 2}),
    ({"serial": 0xFFFFFFFE}, {"serial": 0xFFFFFFFF}),
    pytest.param({"es_version": 1}, {"es_version": 2}, marks=needs_es1),
    pytest.param({"es_version": 2, "serial": 1}, {"es_version": 1, "serial": 2}, marks=needs_es1),
    ({"ends": NOW + DAY}, {"ends": NOW + 2 * DAY, "begins": NOW - DAY}),
    ({"begins": NOW - DAY}, {"begins": NOW - 100}),
    ({"serial": 2, "ends": NOW - 1}, {"serial": 1}),
    ({"serial": 2, "begins": NOW + 1}, {"serial": 1}),
    ({"serial": 2, "es_version": 4}, {"serial": 1}),
    ({"serial": 2, "es_version": 0xFFFF}, {"serial": 1}),
]


@pytest.mark.parametrize(("worse", "better"), BETTER)
def test_the_better_one_is_chosen_in_either_order(worse: dict[str, int], better: dict[str, int]) -> None:
    def sign(options: dict[str, int], magic: bytes) -> bytes:
        return PROVIDER.sign(
            KEY, magic, es_version=options.get("es_version", 2), serial=options.get("serial", 1),
            begins=options.get("begins", NOW - 3600), ends=options.get("ends", NOW + DAY),
        )  # fmt: skip

    both = sign(worse, b"the-less"), sign(better, b"the-best")
    assert chosen(*both).magic == chosen(*both[::-1]).magic == b"the-best"


@needs_es3
def test_es_version_3_beats_2_with_the_same_serial_and_its_boxes_work() -> None:
    old, new = Resolver(2), Resolver(3, magic=b"magic-03")
    one = chosen(new.certificate(PROVIDER), old.certificate(PROVIDER))
    assert (one.es_version, one.key, one.magic, one.serial) == (3, new.key, b"magic-03", 1)
    made = one.boxes(bytes_of(1), box.KeyPair(b"c" * 32)).box(b"n" * 12, 0.0)
    plain, sealed = new.open(made.seal(b"q" * 20, b"n" * 12, 64))
    assert plain[:21] == b"q" * 20 + b"\x80"
    assert made.open(sealed.answer(b"a" * 20)) == b"a" * 20


@needs_es3
def test_an_es_version_3_certificate_of_another_profile_is_of_a_system_not_known() -> None:
    strange = PROVIDER.sign(Resolver(3).key, es_version=3, serial=9, extensions=b"PQD\2" + bytes(8))
    assert chosen(strange, PROVIDER.sign(KEY)).serial == 1
    assert "does not know" in refusal(strange)


def test_whoever_relabels_a_certificate_gets_nothing_chosen_but_what_the_provider_signed() -> None:
    signed = PROVIDER.sign(KEY)
    assert chosen(signed, signed[:4] + b"\0\1" + signed[6:]).es_version == 2
    assert chosen(signed, signed[:4] + b"\0\3" + signed[6:]).es_version == 2


def test_times_are_inclusive() -> None:
    signed = PROVIDER.sign(KEY, begins=NOW, ends=NOW + 10)
    for now in (NOW, NOW + 0.5, NOW + 10, NOW + 10.9):
        assert chosen(signed, now=now).key == KEY
    assert "begins on" in refusal(signed, now=NOW - 0.1)
    assert "expired on" in refusal(signed, now=NOW + 11)


# -- why none is left -------------------------------------------------------------------------------


def test_an_expired_certificate_names_both_times() -> None:
    assert refusal(PROVIDER.sign(KEY, serial=7, begins=NOW - 2 * DAY, ends=NOW - DAY)) == (
        "no usable certificate: the certificate with serial 7 expired on 2026-09-20 14:13 UTC,"
        " and this machine's clock says 2026-09-21 14:13 UTC"
    )


def test_a_wrong_clock_can_be_passed_over() -> None:
    signed = PROVIDER.sign(KEY)
    assert "this machine's clock says 1970-01-01" in refusal(signed, now=0)
    assert "s after 1970 UTC" in refusal(signed, now=1e18)
    for now in (0, 1e18):
        assert chosen(signed, now=now, check_time=False).key == KEY
    assert "ends before it begins" in refusal(PROVIDER.sign(KEY, begins=NOW, ends=NOW), check_time=False)


@needs_es1
def test_es_version_1_can_be_forbidden() -> None:
    signed = PROVIDER.sign(KEY, es_version=1)
    assert chosen(signed).es_version == 1
    assert "es_version 1 (X25519-XSalsa20Poly1305) is not allowed" in refusal(signed, xsalsa20=False)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "why_not", lambda es_version: "needs PyNaCl" if es_version == 1 else "")
    legacy = PROVIDER.sign(KEY, es_version=1, serial=9)
    assert refusal(legacy) == "no usable certificate: needs PyNaCl"
    assert chosen(legacy, PROVIDER.sign(KEY)).es_version == 2
    monkeypatch.setattr(box, "why_not", lambda es_version: "needs cryptography")
    assert refusal(legacy) == "needs cryptography"


def test_unknown_systems_are_named_only_when_there_is_nothing_else_to_say() -> None:
    unknown = PROVIDER.sign(KEY, es_version=9)
    assert refusal(unknown) == ("there are only certificates of encryption systems that this program does not know")
    assert "expired" in refusal(unknown, PROVIDER.sign(KEY, ends=NOW - 1))
    assert "does not know" not in refusal(unknown, PROVIDER.sign(KEY, ends=NOW - 1))


def test_several_reasons_are_given_once_each_and_not_too_many() -> None:
    old = [PROVIDER.sign(KEY, serial=number, ends=NOW - 1) for number in (1, 1, 2, 3, 4, 5)]
    said = refusal(*old)
    assert said.count("expired") == 4
    assert said.count("serial 1 ") == 1


def test_an_empty_answer_and_a_refusal_are_told_apart() -> None:
    assert refusal() == "the answer holds no certificate"
    with pytest.raises(NoCertificate, match="rcode 3: is the provider's name right"):
        choose(reply(ASKED, flags=b"\x81\3"), PROVIDER.public, NOW)


@pytest.mark.parametrize(
    ("magic", "words"),
    [(bytes(8), "QUIC"), (bytes(7) + b"\1", "QUIC"), (b"\xff" * 8, "an anonymized query"),
     (b"PQResume", "a resumed query"), (b"r6fnvWj8", "an answer")],
)  # fmt: skip
def test_magics_that_mean_something_else_are_refused(magic: bytes, words: str) -> None:
    assert words in refusal(PROVIDER.sign(KEY, magic))
    assert chosen(PROVIDER.sign(KEY, bytes(6) + b"\1\0")).magic == bytes(6) + b"\1\0"


def test_a_weak_key_is_refused_and_another_certificate_taken() -> None:
    weak = PROVIDER.sign(bytes(32), serial=5)
    assert "serial 5 cannot be used: the resolver's key is a weak one" in refusal(weak)
    assert chosen(weak, PROVIDER.sign(KEY)).serial == 1


# -- afterwards -------------------------------------------------------------------------------------


def test_the_description_has_what_a_log_needs() -> None:
    one = chosen(PROVIDER.sign(KEY, serial=3))
    assert one.describe() == (
        f"serial 3, es_version 2 (X25519-XChaCha20Poly1305),"
        f" valid 2026-09-21 13:13 to 2026-09-22 14:13 UTC, key {one.fingerprint}"
    )
    assert len(one.fingerprint) == 32
    assert "es_version 2.1 (" in replace(one, minor=1).describe()


@pytest.mark.parametrize(
    ("left", "soonest", "latest"),
    [(30 * DAY, 3240, 3600), (4200, 3240, 3600), (3600, 2700, 3000), (1200, 810, 900), (20, 13.5, 15), (4, 10, 10),
     (0, 3240, 3600), (-DAY, 3240, 3600)],
)  # fmt: skip
def test_the_next_look_is_in_an_hour_or_before_the_end(left: int, soonest: float, latest: float) -> None:
    one = chosen(PROVIDER.sign(KEY))
    assert certificate.refresh_in(one, one.ends - left, 0.0) == latest
    assert certificate.refresh_in(one, one.ends - left, 1.0) == pytest.approx(soonest)


def test_a_real_size_of_all_systems_fits_what_the_query_says_it_takes() -> None:
    data = [PROVIDER.sign(bytes(1216), es_version=3), PROVIDER.sign(KEY), PROVIDER.sign(KEY, es_version=1)]
    answer = reply(ASKED, *data)
    assert 1232 < len(answer) < 4096
    assert certificate.records(answer) == data


def test_offers_say_of_each_record_what_it_is_and_why_it_is_out() -> None:
    good, late = PROVIDER.sign(KEY, serial=2), PROVIDER.sign(KEY, serial=3, begins=NOW - DAY, ends=NOW - 5)
    forged = Provider(b"q" * 32).sign(KEY, serial=9)
    strange = b"DNSC\0\x07" + bytes(200)
    answer = reply(certificate.query(NAME, b"id"), good, late, forged, strange, b"hello")
    found = certificate.offers(answer, PROVIDER.public, NOW)
    assert [one.certificate.serial if one.certificate else None for one in found] == [2, 3, 9, None, None]
    assert [(one.es_version, one.signed, one.unknown) for one in found] == [
        (2, True, False), (2, True, False), (2, False, False), (7, False, True), (0, False, False)
    ]  # fmt: skip
    assert [bool(one.why) for one in found] == [False, True, True, True, True]
    assert "expired" in found[1].why
    assert "not signed" in found[2].why
    assert certificate.best_of(found) == found[0].certificate
    assert certificate.best_of(found[1:]) is None
