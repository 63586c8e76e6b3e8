"""stunnel's grammar: which line says what, in which section, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls.config import ConfigError
from stunnel_compat import parser
from stunnel_compat.parser import File, Section, Setting

HERE = Path(__file__).parent / "stunnel_confs"


def parse(text: str | bytes) -> File:
    return parser.parse(text if isinstance(text, bytes) else text.encode(), "f.conf")


def pairs(section: Section) -> list[tuple[str, str]]:
    return [(line.name, line.value) for line in section.lines if isinstance(line, Setting)]


def mistakes(file: File) -> list[str]:
    sections = [file.defaults, *file.sections]
    return [str(line) for section in sections for line in section.lines if isinstance(line, ConfigError)]


def test_lines_sections_and_comments() -> None:
    file = parse("; one\n  # two\nclient = yes\n\n [a b] \n\taccept\t=\t53 \nconnect=x:y=z\n[]\nCAfile =\n[ü]\n[a b]")
    assert pairs(file.defaults) == [("client", "yes")]
    assert [(one.name, pairs(one)) for one in file.sections] == [
        ("a b", [("accept", "53"), ("connect", "x:y=z")]), ("", [("CAfile", "")]), ("ü", []), ("a b", []),
    ]  # fmt: skip
    assert mistakes(file) == []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_lines_are_counted_as_an_editor_does(newline: str, bom: bytes) -> None:
    file = parse(bom + newline.join(("[dns]", "", "; x", "client = yes")).encode())
    (setting,) = file.sections[0].lines
    assert isinstance(setting, Setting)
    assert (setting.where, setting.text, setting.name_at, setting.at) == ("f.conf:4", "client = yes", 0, 9)
    assert file.sections[0].where == "f.conf:1"


def test_a_bom_counts_on_the_first_line_only() -> None:
    assert pairs(parse("\n\ufeffclient = yes").defaults) == [("\ufeffclient", "yes")]


def test_values_know_no_comments_quotes_or_continuation() -> None:
    text = 'cert = a.pem ; mine\nkey = "k.pem"\nCAfile = a\\\nCApath = b#c'
    assert pairs(parse(text).defaults) == [
        ("cert", "a.pem ; mine"), ("key", '"k.pem"'), ("CAfile", "a\\"), ("CApath", "b#c")
    ]  # fmt: skip


def test_blanks_are_those_of_c_and_a_nul_ends_the_line() -> None:
    assert pairs(parse("a = \xa0b\xa0").defaults) == [("a", "\xa0b\xa0")]
    assert pairs(parse("\v a\f= b\v\n").defaults) == [("a", "b")]
    assert pairs(parse("a = b\0c\nd = e").defaults) == [("a", "b"), ("d", "e")]


@pytest.mark.parametrize(
    ("line", "underline", "says"),
    [
        ("verifyChain", "~~~~~~~~~~^", "NAME = VALUE"),
        ("  word word", "  ~~~~~~~~^", "NAME = VALUE"),
        ("[dns] ; mine", "     ~~~~~~^", "no comments behind a section's name; write [dns] alone"),
        ("[dns", "~~~^", "[dns]"),
    ],
)
def test_a_line_without_equals_is_shown(line: str, underline: str, says: str) -> None:
    (said,) = mistakes(parse(f"\n{line}\nclient = yes"))
    what, shown, under, remedy = said.split("\n")
    assert what == "f.conf:2: No '=' found"
    assert shown == "    " + line
    assert under == "    " + underline
    assert says in remedy


def test_names_that_begin_like_sections_are_names() -> None:
    assert pairs(parse("[a=b\n[c] = d").defaults) == [("[a", "b"), ("[c]", "d")]


def test_a_line_longer_than_stunnels_buffer_is_a_mistake() -> None:
    limit = parser.LINE_LIMIT
    assert not mistakes(parse("CAfile = " + "a" * (limit - 9)))
    assert not mistakes(parse(";" + "a" * (limit - 1) + "   "))
    assert not mistakes(parse("a = b" + " " * limit))
    for line in ("CAfile = " + "a" * (limit - 8), ";" + "a" * limit, "; ü" + "ü" * (limit // 2)):
        assert "cuts" in mistakes(parse(line))[0]


def test_files_that_are_no_utf8_are_read_and_can_be_shown() -> None:
    (setting,) = parse(b"CAfile = \xe4\xff.pem").defaults.lines
    assert isinstance(setting, Setting)
    assert setting.value.encode("utf-8", "surrogateescape") == b"\xe4\xff.pem"
    assert str(setting.bad_value("no")).encode()
    with pytest.raises(ConfigError, match="UTF-16"):
        parse("client = yes".encode("utf-16"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.conf", tmp_path):
        with pytest.raises(ConfigError, match=path.name):
            parser.read(str(path))
    with pytest.raises(ConfigError):
        parser.read("nul\0.conf")


def test_include_reads_every_file_in_name_order_into_the_open_section(tmp_path: Path) -> None:
    inner = tmp_path / "conf.d"
    inner.mkdir()
    (inner / "deep").mkdir()
    (tmp_path / "more.d").mkdir()
    (inner / "b.conf").write_text("[b]\naccept = 2\n")
    (inner / "a.conf~").write_text("\ufeffconnect = 1\n")
    (inner / "c").write_text(f"include = {tmp_path / 'more.d'}\n")
    (tmp_path / "more.d" / "x").write_text("connect = 3\n")
    main = tmp_path / "main.conf"
    main.write_text(f"[a]\nINCLUDE = {inner}\nclient = yes\n")
    file = parser.read(str(main))
    assert [(one.name, pairs(one)) for one in file.sections] == [
        ("a", [("connect", "1")]), ("b", [("accept", "2"), ("connect", "3"), ("client", "yes")])
    ]  # fmt: skip
    where = [line.where for line in file.sections[1].lines if isinstance(line, Setting)]
    assert where == [f"{inner / 'b.conf'}:2", f"{tmp_path / 'more.d' / 'x'}:1", f"{main}:3"]


@pytest.mark.parametrize("value", ["none.d", "main.conf", ""])
def test_include_wants_a_directory(tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main = tmp_path / "main.conf"
    main.write_text(f"include = {value}\nclient = yes\n")
    (said,) = mistakes(parser.read(str(main)))
    assert "main.conf:1: Failed to include directory" in said


def test_an_include_of_itself_ends(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"include = {tmp_path}\nclient = yes\n")
    assert any("being read already" in said for said in mistakes(parser.read(str(tmp_path / "a"))))


def test_an_include_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.setattr("os.path.isfile", lambda path: True)
    (said,) = mistakes(parse(f"include = {tmp_path}"))
    assert "Failed to include a file" in said


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("127.0.0.1:853 #Japan", 'write: connect = 127.0.0.1:853'), ("x ; y", '"; y" became part of it'),
        ("${HOST}:853", "placeholder"), ("{{ dns }}", "placeholder"), ("<your_host>", "placeholder"),
        ("@prefix@/x", "placeholder"), ("\xa01.1.1.1", "no-break space"), ('"x"', "no quotes"), ("x", "remedy"),
    ],
)  # fmt: skip
def test_what_people_do_wrong_goes_into_the_remedy(value: str, hint: str) -> None:
    (setting,) = parse(f"connect = {value}").defaults.lines
    assert isinstance(setting, Setting)
    assert hint in setting.bad_value("problem", "remedy").remedy


def test_a_suspicious_value_is_noticed() -> None:
    for text, suspicious in {"a.pem": False, "a#b": False, "a #b": True, "${X}/a": True, '"a"': True}.items():
        (setting,) = parse(f"cert = {text}").defaults.lines
        assert isinstance(setting, Setting)
        assert bool(setting.suspicion) == suspicious


def test_own_samples_are_read() -> None:
    for path in sorted(HERE.glob("*.conf")):
        assert not mistakes(parser.read(str(path)))


PIECES = st.sampled_from(["[", "]", "=", "\n", "\r", "\0", ";", "#", " ", "\t", "client", "\ufeff", "ü", "include"])
TEXTS = st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(lambda parts: "".join(parts).encode())


@settings(max_examples=200)
@given(TEXTS)
def test_any_bytes_are_read(data: bytes) -> None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16, see above
        return
    file = parse(data)
    count = data.count(b"\n") + 1
    for section in (file.defaults, *file.sections):
        for line in section.lines:
            assert 1 <= int(line.where.rpartition(":")[2]) <= count
            assert str(line).encode()
