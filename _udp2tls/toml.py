"""A TOML file as options: the same names, with dnscrypt-proxy's where it has one.

Reads the file, checks names and types, and hands over text for the parsers in
``config``; every value carries "FILE:LINE" so that a mistake in it can be found.
"""

from __future__ import annotations

import re
import tomllib

from _udp2tls.config import ConfigError

# Option by key: (option, may it be a list)
KEYS = {
    "listen": ("listen", True),
    "listen_addresses": ("listen", True),  # dnscrypt-proxy
    "upstream": ("upstream", True),
    "upstreams": ("upstream", True),
    "ca_file": ("ca_file", False),
    "pin": ("pin", True),
    "pins": ("pin", True),
    "client_cert": ("client_cert", False),
    "client_key": ("client_key", False),
    "bootstrap": ("bootstrap", True),
    "allow": ("allow", True),
    "timeout": ("timeout", False),
    "strategy": ("strategy", False),
    "ephemeral_keys": ("ephemeral_keys", False),
    "dnscrypt_ephemeral_keys": ("ephemeral_keys", False),  # dnscrypt-proxy
    "moderation": ("moderation", False),
    "workers": ("workers", False),
    "log_level": ("log_level", False),
    "log_queries": ("log_queries", False),
}

SWITCHES = {"ephemeral_keys", "log_queries"}

Table = dict[str, list[tuple[str, str]]]


def read(path: str) -> Table:
    """Return option -> [(text, "FILE:LINE")]; raise ConfigError."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # Notepad writes a BOM
            source = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return parse(source, path)


def parse(source: str, path: str) -> Table:
    """Read the text of a file."""
    lines = source.replace("\r\n", "\n").removesuffix("\n").split("\n")  # what TOML takes for a line
    try:
        data = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        number, column = (int(found[1]), int(found[2])) if found else (len(lines), 1)
        text = lines[number - 1] if 0 < number <= len(lines) else ""
        problem = str(error).partition(" (at ")[0]
        raise ConfigError(problem, text=text, span=(column - 1, column), where=f"{path}:{number}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise ConfigError(f"{path}: {error}") from None
    table: Table = {}
    for key, value in data.items():
        number, span = _line_of(key, lines)
        where, text = f"{path}:{number}", lines[number - 1]
        if key not in KEYS:
            raise ConfigError(f"unknown name {key!r}", text=text, span=span, where=where,
                              remedy="known are: " + ", ".join(sorted(KEYS)))  # fmt: skip
        option, many = KEYS[key]
        values = value if isinstance(value, list) and many else [value]
        for one in values:
            if (option in SWITCHES) != isinstance(one, bool) or not isinstance(one, (str, int, float)):
                raise ConfigError(f"{key} cannot be a {type(one).__name__}", text=text, span=span, where=where)
            if isinstance(one, int) and abs(one) > 1 << 64:
                raise ConfigError(f"{key} cannot be so large", text=text, span=span, where=where)
            said = str(one).lower() if isinstance(one, bool) else str(one)
            table.setdefault(option, []).append((said, where))
    return table


def _line_of(key: str, lines: list[str]) -> tuple[int, tuple[int, int]]:
    pattern = re.compile(rf"""\s*\[*\s*["']?({re.escape(key)})["']?\s*[=.\]]""")
    for number, line in enumerate(lines, 1):
        found = pattern.match(line)
        if found:
            return number, found.span(1)
    return 1, (0, 1)
