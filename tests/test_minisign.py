"""minisign: what was signed is accepted in both forms, and no changed bit anywhere else."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import minisign
from _udp2tls.minisign import MinisignError, PublicKey, TrustedComment, check_file, check_order, verify

LISTS = Path(__file__).parent.parent.parent / "shared" / "resolver_lists"
SIGNED = sorted(LISTS.glob("*.md.minisig"))

NAME = "list.md"
DATA = b"## one\n\nA server.\n\nsdns://AAcAAAAAAAAABzguOC44Ljg\n"


class Signer:
    """Signs as minisign does; with ``comment`` or ``algorithm``, as it never would."""

    def __init__(self, seed: int = 1) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(bytes([seed])).digest())
        self.id = hashlib.sha256(b"id" + bytes([seed])).digest()[:8]
        self.line = base64.b64encode(b"Ed" + self.id + self._key.public_key().public_bytes_raw()).decode()
        self.key = PublicKey.parse(self.line)

    def sign(
        self, data: bytes, *, timestamp: int = 1000, file: str = NAME, prehashed: bool = False,
        comment: str | None = None, algorithm: bytes | None = None, end: str = "\n",
    ) -> bytes:  # fmt: skip
        if comment is None:
            comment = f"timestamp:{timestamp}\tfile:{file}" + ("\thashed" if prehashed else "")
        one = self._key.sign(hashlib.blake2b(data).digest() if prehashed else data)
        whole = self._key.sign(one + comment.encode())
        head = (algorithm or (b"ED" if prehashed else b"Ed")) + self.id + one
        lines = ("untrusted comment: signature from a test", base64.b64encode(head).decode(),
                 f"trusted comment: {comment}", base64.b64encode(whole).decode(), "")  # fmt: skip
        return end.join(lines).encode()


SIGNER = Signer()
KEY = SIGNER.key


def refusal(signature: bytes, data: bytes = DATA, key: PublicKey = KEY) -> str:
    """Return the sentence with which a signature is refused."""
    with pytest.raises(MinisignError) as caught:
        verify(key, data, signature)
    return str(caught.value)


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def project() -> PublicKey:
    return PublicKey.parse((LISTS / "minisign.pub").read_text())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("prehashed", [False, True])
def test_both_forms_and_line_ends(prehashed: bool, end: str) -> None:
    signature = SIGNER.sign(DATA, prehashed=prehashed, end=end)
    comment = verify(KEY, DATA, signature)
    assert (comment.timestamp, comment.file) == (1000, NAME)
    assert verify(KEY, DATA, signature.removesuffix(end.encode())) == comment


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: str(path.name))
def test_the_projects_lists_are_signed_by_the_project(path: Path) -> None:
    comment = verify(project(), path.with_suffix("").read_bytes(), path.read_bytes())
    assert comment.file == path.stem
    assert comment.timestamp is not None
    assert comment.timestamp > 1_700_000_000


@pytest.mark.skipif(not SIGNED, reason="the project's lists are not here")
def test_the_key_is_the_same_with_and_without_its_comment() -> None:
    assert project() == PublicKey.parse("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3")
    assert str(project()) == "E7620F1842B4E81F"  # as minisign writes it into the comment of a key


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_key_file_of_two_lines(end: str) -> None:
    assert PublicKey.parse(f"untrusted comment: a key{end or chr(10)}{SIGNER.line}{end}") == KEY


def untrusted_text(signature: bytes) -> range:
    """Return where the text of the untrusted comment is: nobody signs it."""
    return range(len(minisign.UNTRUSTED), len(signature.splitlines()[0]))


def flips(key: PublicKey, data: bytes, signature: bytes) -> None:
    comment, free = verify(key, data, signature), untrusted_text(signature)
    for position in range(len(signature)):
        for bit in range(8):
            changed = flipped(signature, position, bit)
            try:
                assert verify(key, data, changed) == comment
            except MinisignError:
                continue
            assert position in free, f"bit {bit} of byte {position} changed: {changed!r}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("prehashed", [False, True])
def test_any_bit_of_a_signature_changed_is_refused(prehashed: bool, end: str) -> None:
    flips(KEY, DATA, SIGNER.sign(DATA, prehashed=prehashed, end=end))


@pytest.mark.skipif(not SIGNED, reason="the project's lists are not here")
def test_any_bit_of_the_projects_signature_changed_is_refused() -> None:
    flips(project(), (LISTS / "opennic.md").read_bytes(), (LISTS / "opennic.md.minisig").read_bytes())


@pytest.mark.parametrize("prehashed", [False, True])
def test_any_bit_of_a_small_list_changed_is_refused(prehashed: bool) -> None:
    signature = SIGNER.sign(DATA, prehashed=prehashed)
    for position in range(len(DATA)):
        for bit in range(8):
            assert refusal(signature, flipped(DATA, position, bit)) == "the signature is not one of this file"


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: str(path.name))
def test_a_bit_of_the_projects_lists_changed_is_refused(path: Path) -> None:
    data, signature, key = path.with_suffix("").read_bytes(), path.read_bytes(), project()
    for position in {*range(0, len(data), 1 + len(data) // 300), len(data) - 1}:
        refusal(signature, flipped(data, position, position % 8), key)
    refusal(signature, data[:-1], key)
    refusal(signature, data + b"\n", key)


@pytest.mark.parametrize("prehashed", [False, True])
def test_any_bit_of_the_key_changed_is_refused(prehashed: bool) -> None:
    signature = SIGNER.sign(DATA, prehashed=prehashed)
    for position in range(len(SIGNER.line)):
        for bit in range(7):
            text = flipped(SIGNER.line.encode(), position, bit).decode("ascii")
            with pytest.raises(MinisignError):
                verify(PublicKey.parse(text), DATA, signature)


def test_each_refusal_says_why() -> None:
    other = Signer(2)
    assert refusal(other.sign(DATA)) == f"signed with the key {other.key}, not with {KEY}"
    good = SIGNER.sign(DATA)
    lines = good.decode().splitlines()
    assert refusal(SIGNER.sign(DATA, algorithm=b"EX")) == "the signature is of an unknown kind"
    assert refusal(SIGNER.sign(DATA, algorithm=b"ED")) == "the signature is not one of this file"
    assert refusal(SIGNER.sign(DATA, prehashed=True, algorithm=b"Ed")) == "the signature is not one of this file"
    assert refusal(good.replace(b":1000", b":1001")) == "the trusted comment is not the one that was signed"
    assert refusal(good + b"\n") == "the signature has not 4 lines"
    assert refusal(b"") == "the signature has not 4 lines"
    assert refusal(good.replace(b"a test", b"a\x1b[2J")) == "the signature has control characters"
    assert refusal(good.replace(b"a test", b"\xff")) == "the signature is no text"
    assert refusal(good.replace(b"untrusted comment: ", b"comment: ")) == "the signature lacks the comments of one"
    assert refusal(good.replace(b"comment: time", b"comment:time")) == "the signature lacks the comments of one"
    assert refusal("\n".join([lines[0], lines[3], lines[2], lines[1]]).encode()).startswith("the signature is not the")
    assert refusal(good.replace(lines[1].encode(), b"!")) == "the signature is not base64"
    assert refusal(b"x" * 16385) == "the signature has 16385 bytes, and 16384 are the most"


@pytest.mark.parametrize("which", [1, 3])
@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + " ", lambda text: " " + text,
                                    lambda text: text + "=", lambda text: text.rstrip("=")])  # fmt: skip
def test_base64_has_one_spelling(which: int, change: object) -> None:
    assert callable(change)
    lines = SIGNER.sign(DATA).decode().split("\n")
    lines[which] = change(lines[which])
    refusal("\n".join(lines).encode())


@pytest.mark.parametrize("which", [1, 3])
def test_the_bits_that_base64_drops_are_zero(which: int) -> None:
    lines = SIGNER.sign(DATA).decode().split("\n")
    body = lines[which].rstrip("=")
    # The last character stands for a number with two or four zero bits; the next one decodes alike.
    changed = body[:-1] + chr(ord(body[-1]) + 1) + "=" * (len(lines[which]) - len(body))
    assert base64.b64decode(changed) == base64.b64decode(lines[which])
    lines[which] = changed
    assert "is not the base64 of" in refusal("\n".join(lines).encode())


@pytest.mark.parametrize(
    "text",
    ["", "x", "\n", SIGNER.line + "\n", " " + SIGNER.line, SIGNER.line[:-4], SIGNER.line + "AAAA", "é" * 56, "\ud800",
     "untrusted comment: a key", f"untrusted comment: a key\n\n{SIGNER.line}", f"a key\n{SIGNER.line}",
     base64.b64encode(b"ED" + bytes(40)).decode()],
)  # fmt: skip
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(MinisignError):
        PublicKey.parse(text)


@pytest.mark.parametrize(
    ("text", "timestamp", "file"),
    [
        ("timestamp:12\tfile:a.md", 12, "a.md"),
        ("file:a.md\ttimestamp:12\thashed", 12, "a.md"),
        ("timestamp:12", 12, None),
        ("", None, None),
        ("signed by hand", None, None),
        ("timestamp:\tfile:", None, None),
        ("timestamp:-1\tfile:a:b c", None, "a:b c"),
        ("timestamp:" + "9" * 5000, None, None),
        ("timestamp:\u0661", None, None),
        ("Timestamp:1\t file:a", None, None),
    ],
)
def test_what_a_trusted_comment_says(text: str, timestamp: int | None, file: str | None) -> None:
    assert TrustedComment.parse(text) == TrustedComment(text, timestamp, file)
    assert verify(KEY, DATA, SIGNER.sign(DATA, comment=text)) == TrustedComment(text, timestamp, file)


@pytest.mark.parametrize("text", ["file:a\tfile:b", "timestamp:1\ttimestamp:1", "file:\tfile:a"])
def test_a_comment_that_says_it_twice_is_refused(text: str) -> None:
    assert refusal(SIGNER.sign(DATA, comment=text)).endswith("twice")


def test_the_file_is_the_expected_one() -> None:
    check_file(TrustedComment("", file="a.md"), {"a.md", "b.md"})
    with pytest.raises(MinisignError, match=r"^signed as 'relays.md', expected 'a.md' or 'b.md'$"):
        check_file(TrustedComment("", file="relays.md"), {"b.md", "a.md"})
    with pytest.raises(MinisignError, match=r"does not say which file"):
        check_file(TrustedComment(""), {"a.md"})


def test_there_is_no_step_back_in_time() -> None:
    old, new, never = TrustedComment("", 10), TrustedComment("", 11), TrustedComment("")
    for comment, before in ((new, old), (old, old), (old, None), (never, None), (old, never), (never, never)):
        check_order(comment, before)
    with pytest.raises(MinisignError, match="signed 1 seconds earlier"):
        check_order(old, new)
    with pytest.raises(MinisignError, match="no timestamp"):
        check_order(never, old)


def test_without_cryptography_nothing_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, module, None)
    assert refusal(SIGNER_SIGNATURE) == "signatures need the package cryptography: pip install cryptography"


SIGNER_SIGNATURE = SIGNER.sign(DATA)


@given(st.binary(max_size=400) | st.text().map(lambda text: text.encode()))
def test_strange_signatures_raise_their_own_error(signature: bytes) -> None:
    refusal(signature)


@given(st.lists(st.tuples(st.integers(0, len(SIGNER_SIGNATURE)), st.integers(0, 3), st.binary(max_size=3)), min_size=1))
@settings(max_examples=300)
def test_edited_signatures_raise_their_own_error(edits: list[tuple[int, int, bytes]]) -> None:
    signature = SIGNER_SIGNATURE
    for position, removed, added in edits:
        signature = signature[:position] + added + signature[position + removed :]
    try:
        assert verify(KEY, DATA, signature) == TrustedComment("timestamp:1000\tfile:list.md", 1000, NAME)
    except MinisignError:
        assert signature != SIGNER_SIGNATURE


@given(st.text())
def test_strange_keys_and_comments_raise_their_own_error(text: str) -> None:
    for parse in (PublicKey.parse, TrustedComment.parse):
        try:
            parse(text)
        except MinisignError:
            pass
