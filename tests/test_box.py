"""box: published vectors, libsodium beside it, and not one flipped bit gets in."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import box
from tests.provider import Provider, Resolver, Sodium, bytes_of, sodium

ROOT = Path(__file__).parent.parent
MESSAGE = bytes.fromhex("12340100000100000000000003777777076578616d706c6503636f6d0000010001")
REPLY = bytes.fromhex(
    "12348180000100010000000003777777076578616d706c6503636f6d0000010001c00c0001000100000e1000045db8d822"
)
NONCE = b"nonce-number"
SYSTEMS = [
    pytest.param(one, marks=pytest.mark.skipif(bool(box.why_not(one)), reason=box.why_not(one)), id=f"es{one}")
    for one in box.NAMES
]
each_system = pytest.mark.parametrize("es_version", SYSTEMS)
each_classic = pytest.mark.parametrize("es_version", SYSTEMS[:2])

# Points of X25519 of small order (RFC 7748 section 6.1): whatever the secret, the result is zero.
WEAK = [
    bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]  # fmt: skip


def iota(size: int, start: int) -> bytes:
    return bytes(start + n & 255 for n in range(size))


def swap(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def boxes_for(resolver: Resolver, *, ephemeral: bool = False, seed: int = 1) -> box.Boxes:
    signed = resolver.certificate(Provider())
    context = b"DNSCrypt-PQ-v1" + signed[4:8] + signed[72:]
    pair = None if ephemeral else box.KeyPair(b"c" * 32)
    return box.boxes(resolver.es_version, resolver.key, resolver.magic, bytes_of(seed), pair=pair, context=context)


def ask(boxes: box.Boxes, resolver: Resolver, nonce: bytes = NONCE, now: float = 0.0) -> bytes:
    """Send a query and its answer through; return the query's packet."""
    one = boxes.box(nonce, now)
    size = max(one.least, box.tcp_size(len(MESSAGE), 0))
    packet = one.seal(MESSAGE, nonce, size)
    assert len(packet) == one.overhead + size
    plain, sealed = resolver.open(packet)
    assert plain == MESSAGE + b"\x80" + bytes(size - len(MESSAGE) - 1)
    answer = sealed.answer(REPLY)
    assert box.response_nonce(answer) == nonce
    assert one.open(answer) == REPLY
    return packet


@pytest.fixture(scope="module")
def library() -> Sodium:
    return sodium()


# -- ciphers ----------------------------------------------------------------------------------------


def test_the_vector_of_hchacha20() -> None:
    """draft-denis-dprive-dnscrypt, Test Vector For The HChaCha20 Block Function."""
    out = box.XChaCha20Poly1305(iota(32, 0)).subkey(iota(16, 0))
    assert out.hex() == "51e3ff45a895675c4b33b46c64f4a9ace110d34df6a2ceab486372bacbd3eff6"


def test_the_vector_of_the_drafts_es_version_3_query() -> None:
    key = bytes.fromhex("e6d4ab9cffc9b49e2a64d80d7eb2dde280f806b89e834d596ad385b1dd75e9ef")
    sealed = box.XChaCha20Poly1305(key).seal(iota(12, 0xB0) + bytes(12), MESSAGE + b"\x80" + bytes(30))
    assert sealed.hex() == (
        "c41764468cb42d3a837c51234c08be714af49e1a6830ea6da28178e9e280d76bac1b87fd7f56515f2b2cc3d4715aaa42"
        "907c282db1edff0bc3b92cd535a710e264859a5bdaf67c17ffa6e1c6f6e02a50"
    )


SIGMA = b"expand 32-byte k"
CORNERS = [
    bytes(16), b"\xff" * 16, b"\xff" * 4 + bytes(12), b"\xff" * 8 + bytes(8), b"\0\0\0\x80" * 4,
    b"\xff\xff\xff\x7f" * 4, b"\1\0\0\0" * 4,
]  # fmt: skip


@pytest.mark.parametrize("nonce", CORNERS, ids=bytes.hex)
def test_hchacha20_at_the_corners_of_its_lanes(library: Sodium, nonce: bytes) -> None:
    random = bytes_of(2)
    for key in (bytes(32), b"\xff" * 32, *(random(32) for _ in range(200))):
        expected = library.call("crypto_core_hchacha20", 32, nonce, key, SIGMA)
        assert box.XChaCha20Poly1305(key).subkey(nonce) == expected


def test_hchacha20_of_random_input_is_libsodiums(library: Sodium) -> None:
    random = bytes_of(3)
    for _ in range(50):
        cipher = box.XChaCha20Poly1305(key := random(32))
        for _ in range(20):  # one context, many nonces
            nonce = random(16)
            assert cipher.subkey(nonce) == library.call("crypto_core_hchacha20", 32, nonce, key, SIGMA)


CIPHERS: dict[int, tuple[Callable[[bytes], box.Cipher], str]] = {
    1: (box.XSalsa20Poly1305, ""),
    2: (box.XChaCha20Poly1305, "xchacha20poly1305_"),
}


@each_classic
def test_boxes_of_every_length_are_libsodiums(library: Sodium, es_version: int) -> None:
    make, kind = CIPHERS[es_version]
    random = bytes_of(4)
    cipher = make(key := random(32))
    for size in (*range(300), 511, 512, 513, 1400, 4096, 65000):
        nonce, plain = random(24), random(size)
        sealed = library.seal(kind, key, nonce, plain)
        assert cipher.seal(nonce, plain) == sealed
        assert cipher.open(nonce, sealed) == plain
        assert library.open(kind, key, nonce, cipher.seal(nonce, plain)) == plain


@each_classic
def test_shared_keys_are_libsodiums(library: Sodium, es_version: int) -> None:
    name = {1: "crypto_box_", 2: "crypto_box_curve25519xchacha20poly1305_"}[es_version]
    random = bytes_of(5)
    for _ in range(20):
        ours, theirs = box.KeyPair(mine := random(32)), box.KeyPair(other := random(32))
        key = library.call(name + "beforenm", 32, theirs.public, mine)
        assert key == library.call(name + "beforenm", 32, ours.public, other)
        assert key is not None
        nonce = random(24)
        sealed = library.call(name + "easy_afternm", 116, plain := random(100), 100, nonce, key)
        assert sealed == ours.cipher(es_version, theirs.public).seal(nonce, plain)
        assert theirs.cipher(es_version, ours.public).open(nonce, sealed or b"") == plain


@each_classic
@settings(max_examples=200)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=24, max_size=24), st.binary(max_size=600))
def test_what_is_sealed_opens(es_version: int, key: bytes, nonce: bytes, plain: bytes) -> None:
    cipher = CIPHERS[es_version][0](key)
    sealed = cipher.seal(nonce, plain)
    assert len(sealed) == len(plain) + box.TAG
    assert cipher.open(nonce, sealed) == plain


@each_classic
@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_whatever_is_opened_is_refused_at_worst(es_version: int, sealed: bytes) -> None:
    with pytest.raises(box.Refused):
        CIPHERS[es_version][0](b"k" * 32).open(bytes(24), sealed)


# -- packets ----------------------------------------------------------------------------------------


@each_system
@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_query_and_its_answer_pass(es_version: int, ephemeral: bool) -> None:
    resolver = Resolver(es_version)
    boxes = boxes_for(resolver, ephemeral=ephemeral)
    packets = [ask(boxes, resolver, number.to_bytes(12, "big")) for number in range(3)]
    assert len(set(packets)) == 3


@each_classic
def test_a_querys_packet_is_magic_key_nonce_and_box(es_version: int) -> None:
    resolver = Resolver(es_version)
    one = boxes_for(resolver).box(NONCE, 0.0)
    packet = one.seal(MESSAGE, NONCE, 256)
    assert packet[:52] == resolver.magic + box.KeyPair(b"c" * 32).public + NONCE
    assert (len(packet), one.overhead, one.least) == (324, 68, 64)
    assert boxes_for(resolver).box(b"other", 1.0).seal(MESSAGE, NONCE, 256) == packet


@each_system
def test_every_flipped_bit_of_an_answer_is_refused(es_version: int) -> None:
    resolver = Resolver(es_version)
    one = boxes_for(resolver).box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(MESSAGE, NONCE, 256))
    answer = sealed.answer(REPLY, padding=b"\x80\0\0\0")
    for at in range(len(answer)):
        for bit in range(8):
            with pytest.raises(box.Refused):
                one.open(swap(answer, at, bit))
    for size in range(len(answer)):
        with pytest.raises(box.Refused):
            one.open(answer[:size])
    with pytest.raises(box.Refused):
        one.open(answer + b"\0")
    assert one.open(answer) == REPLY  # refusals leave nothing behind


@each_system
def test_a_flipped_bit_in_any_byte_of_a_query_is_refused_by_the_server(es_version: int) -> None:
    """But the last of an X25519 key, which is no part of it (RFC 7748 section 5)."""
    resolver = Resolver(es_version)
    one = boxes_for(resolver).box(NONCE, 0.0)
    packet = one.seal(MESSAGE, NONCE, 64)
    for at in range(8, len(packet), 1 if es_version < 3 else 37):
        with pytest.raises(box.Refused):
            resolver.open(swap(packet, at, at % 7))


@each_system
def test_an_answer_opens_only_with_the_box_of_its_query(es_version: int) -> None:
    resolver = Resolver(es_version)
    boxes = boxes_for(resolver, ephemeral=True)
    one, other = boxes.box(NONCE, 0.0), boxes.box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(MESSAGE, NONCE, 256))
    with pytest.raises(box.Refused):
        other.open(sealed.answer(REPLY))
    assert one.open(sealed.answer(REPLY)) == REPLY


@pytest.mark.parametrize("padding", [b"", b"\0", b"\x80\1", b"\x80\0\x81", b"\x7f\0\0"], ids=bytes.hex)
def test_padding_that_is_none_is_refused(padding: bytes) -> None:
    resolver = Resolver()
    one = boxes_for(resolver).box(NONCE, 0.0)
    _, sealed = resolver.open(one.seal(MESSAGE, NONCE, 256))
    with pytest.raises(box.Refused, match="padding"):
        one.open(sealed.answer(REPLY, padding=padding))


def test_a_message_shorter_than_a_header_is_refused() -> None:
    for size in range(13):
        padded = b"m" * size + b"\x80" + bytes(20)
        if size < 12:
            with pytest.raises(box.Refused):
                box.unpad(padded)
        else:
            assert box.unpad(padded) == b"m" * size
    with pytest.raises(box.Refused):
        box.unpad(bytes(64))


@given(st.binary(min_size=12, max_size=300), st.integers(0, 300))
def test_any_message_comes_out_of_its_padding(message: bytes, zeros: int) -> None:
    assert box.unpad(message + b"\x80" + bytes(zeros)) == message


def test_a_size_without_room_for_padding_is_an_error() -> None:
    one = boxes_for(Resolver()).box(NONCE, 0.0)
    with pytest.raises(ValueError, match="padding"):
        one.seal(bytes(64), NONCE, 64)


def test_a_packet_that_is_no_answer_has_no_nonce() -> None:
    whole = box.RESOLVER_MAGIC + NONCE + bytes(12) + bytes(16) + bytes(13)
    assert box.response_nonce(whole) == NONCE
    for packet in (b"", whole[:-1], b"x" + whole[1:], MESSAGE, b"\0" + whole, box.RESOLVER_MAGIC):
        assert box.response_nonce(packet) == b""


@settings(max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_hostile_packets_are_refused(data: bytes, magic: bool) -> None:
    one = boxes_for(Resolver()).box(NONCE, 0.0)
    with pytest.raises(box.Refused):
        one.open(box.RESOLVER_MAGIC * magic + data)


# -- sizes ------------------------------------------------------------------------------------------


def test_sizes_over_udp() -> None:
    for length in range(12, 2000):
        size = box.udp_size(length, 256, 4096)
        assert size == max(256, length // 64 * 64 + 64)
    assert box.udp_size(40, 320, 4096) == 320
    assert box.udp_size(40, 444, 4096) == 448
    assert box.udp_size(40, 2048, 1252 - 68) == 1152
    assert box.udp_size(255, 256, 256) == 256
    assert box.udp_size(256, 256, 256) == 0
    assert box.udp_size(256, 256, 319) == 0
    assert box.udp_size(256, 256, 320) == 320


@given(st.integers(12, 65000), st.integers(0, 255))
def test_sizes_over_tcp(length: int, random: int) -> None:
    size = box.tcp_size(length, random)
    assert size % 64 == 0
    assert 1 <= size - length <= 256
    assert {box.tcp_size(56, one) for one in range(256)} == {64, 128, 192, 256}  # the draft's example


# -- keys -------------------------------------------------------------------------------------------


@each_system
@pytest.mark.parametrize("ephemeral", [False, True])
@pytest.mark.parametrize("weak", WEAK, ids=lambda key: str(key.hex()[:8]))
def test_weak_keys_are_refused_when_boxes_are_made(es_version: int, weak: bytes, ephemeral: bool) -> None:
    key = Resolver(es_version).key[:-32] + weak
    with pytest.raises(box.WeakKey):
        box.check_key(es_version, key)
    pair = None if ephemeral else box.KeyPair(b"c" * 32)
    with pytest.raises(box.WeakKey):
        box.boxes(es_version, key, b"magic-01", bytes_of(1), pair=pair)


@each_classic
def test_ephemeral_queries_have_nothing_in_common_but_the_magic(es_version: int) -> None:
    resolver = Resolver(es_version)
    boxes = boxes_for(resolver, ephemeral=True)
    keys = {ask(boxes, resolver)[8:40] for _ in range(10)}
    assert len(keys) == 10
    boxes.forget()
    assert len({ask(boxes_for(resolver, ephemeral=True, seed=7), resolver)[8:40] for _ in range(3)}) == 1


# -- what is not installed, or not wanted --------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Modules that cannot be imported, by the start of their names."""
    missing: list[str] = []
    real = builtins.__import__

    def pretend(
        name: str, globals: Mapping[str, object] | None = None, locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (), level: int = 0,
    ) -> Any:  # fmt: skip
        if any(name.startswith(one) for one in missing):
            raise ImportError(name)
        return real(name, globals, locals, fromlist or (), level)

    monkeypatch.setattr(builtins, "__import__", pretend)
    box.why_not.cache_clear()
    yield missing
    box.why_not.cache_clear()


@pytest.mark.parametrize(
    ("module", "es_version", "words"),
    [
        ("nacl", 1, "es_version 1 (X25519-XSalsa20Poly1305) needs the package PyNaCl: pip install 'udp2tls[xsalsa20]'"),
        ("cryptography", 2, "DNSCrypt needs the package cryptography: pip install cryptography"),
        ("cryptography.hazmat.primitives.asymmetric.mlkem", 3, "needs the package cryptography, 47 or newer"),
        ("nothing", 4, "es_version 4 is no encryption system that this program knows"),
    ],
)
def test_what_is_not_there_is_said(lacking: list[str], module: str, es_version: int, words: str) -> None:
    lacking.append(module)
    assert words in box.why_not(es_version)
    with pytest.raises(box.Unavailable) as caught:
        box.boxes(es_version, bytes(32), b"magic-01", bytes_of(1), pair=None)
    assert words in str(caught.value)


def test_the_cipher_of_es_version_1_says_what_it_needs_too(lacking: list[str]) -> None:
    lacking.append("nacl")
    with pytest.raises(box.Unavailable, match="PyNaCl"):
        box.KeyPair(b"c" * 32).cipher(1, box.KeyPair(b"r" * 32).public)


def test_nothing_is_imported_before_it_is_used() -> None:
    """Plain DNS over TLS needs no package."""
    code = "import _udp2tls.certificate, sys; sys.exit(bool({'cryptography', 'nacl', 'dnslib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
