"""DNS stamps as JSON, for people and scripts, and what ``--stamp`` prints.

Owns the names of the JSON members: those of ``Stamp``'s fields, and ``protocol``. Bytes are
hexadecimal. ``from_json`` is the inverse of ``to_json``: nothing is guessed, what is unknown
or of another type is refused with a sentence, and what is left out is empty or false.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, TextIO

from _udp2tls import stamps
from _udp2tls.stamp_fields import FIELDS, NAMES, PROPERTIES, Kind, Pair, Stamp, StampError, check_pair

_KINDS = {name: kind for kind, name in NAMES.items()}

WHERE = "--stamp"


def to_json(stamp: Stamp | Pair) -> dict[str, Any]:
    """Return what ``json.dumps`` takes; for a pair ``{"relay": ..., "server": ...}``."""
    if isinstance(stamp, Pair):
        return {"relay": to_json(stamp.relay), "server": to_json(stamp.server)}
    made: dict[str, Any] = {"protocol": NAMES[stamp.kind]}
    for field in _members(stamp.kind):
        made[field] = _plain(getattr(stamp, field))
    return made


def from_json(value: object) -> Stamp | Pair:
    """Read what ``to_json`` returns; raises StampError."""
    if not isinstance(value, dict):
        raise StampError(f"{_type(value)} is not a stamp", remedy='write an object: {"protocol": "DoT", ...}')
    if "relay" in value or "server" in value:
        return _pair(value)
    kind = _KINDS.get(value["protocol"]) if isinstance(value.get("protocol"), str) else None
    if kind is None:
        raise StampError("'protocol' is missing or unknown", remedy="one of " + ", ".join(_KINDS))
    members = _members(kind)
    fields: dict[str, Any] = {}
    for name, said in value.items():
        if name in members:
            fields[name] = _READERS[name](said, name)
        elif name != "protocol":
            raise StampError(
                f"a stamp of {NAMES[kind]} has no {name!r:.80}", remedy="it has protocol, " + ", ".join(members)
            )
    return Stamp(kind, **fields)


def convert(given: str, stdin: TextIO | None) -> str:
    """Return a stamp as JSON, or JSON as a stamp; ``-`` is read from ``stdin``. Raises StampError."""
    text = (_all(stdin) if given == "-" else given).strip()
    if text.startswith("{"):
        value = _load(text)
        try:
            return stamps.format(from_json(value))
        except StampError as error:
            error.where = WHERE
            raise
    if text.startswith("sdns:"):
        stamp = stamps.parse_pair(text, WHERE) if stamps.is_pair(text) else stamps.parse(text, WHERE)
        return json.dumps(to_json(stamp), indent=2)
    raise StampError(
        "neither a stamp nor JSON", remedy='a stamp begins with sdns://, JSON with {; "-" reads standard input',
    ).place(text, 0, len(text), WHERE)  # fmt: skip


def _members(kind: Kind) -> list[str]:
    members: list[str] = []
    for field in FIELDS[kind]:
        members += PROPERTIES if field == "properties" else [field]
    return members


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def _pair(value: dict[Any, Any]) -> Pair:
    made = {}
    for name in ("relay", "server"):
        one = value.get(name)
        stamp = from_json(one) if isinstance(one, dict) and not {"relay", "server"} & one.keys() else None
        if not isinstance(stamp, Stamp):
            raise StampError(f"{name!r} is not a stamp", remedy='write {"relay": {...}, "server": {...}}')
        made[name] = stamp
    if unknown := [name for name in value if name not in made]:
        raise StampError(f"a relay and its server have no {unknown[0]!r:.80}", remedy="leave it out")
    pair = Pair(**made)
    check_pair(pair)
    return pair


def _type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number",
             float: "a number", type(None): "null"}  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")


def _as(kind: type, value: Any, name: str) -> Any:
    if type(value) is not kind:  # True is an int
        raise StampError(f"{name!r} is {_type(value)}", remedy=f"it should be {_type(kind())}")
    return value


def _flag(value: object, name: str) -> bool:
    return bool(_as(bool, value, name))


def _text(value: object, name: str) -> str:
    return str(_as(str, value, name))


def _bytes(value: object, name: str) -> bytes:
    text = _text(value, name)
    if not re.fullmatch(r"([0-9A-Fa-f]{2})*", text, re.ASCII):
        raise StampError(f"{name!r} is not hexadecimal: {text!r:.80}", remedy="write two digits a byte, nothing else")
    return bytes.fromhex(text)


def _list(read: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    return lambda value, name: tuple(read(one, name) for one in _as(list, value, name))


_READERS: dict[str, Callable[[object, str], Any]] = {
    **dict.fromkeys(PROPERTIES, _flag),
    **dict.fromkeys(("address", "provider", "host", "path"), _text),
    "key": _bytes, "hashes": _list(_bytes), "bootstrap": _list(_text),
}  # fmt: skip


def _all(stdin: TextIO | None) -> str:
    try:
        return stdin.read() if stdin else ""
    except (OSError, ValueError) as error:
        raise StampError(f"standard input cannot be read: {error}", where=WHERE) from None


def _load(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except StampError as error:  # a ValueError too, but in words already
        error.where = WHERE
        raise
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1]
        raise StampError(f"not JSON: {error.msg}").place(
            line, error.colno - 1, error.colno, f"{WHERE}, line {error.lineno}"
        ) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
        raise StampError(f"not JSON: {error}", where=WHERE) from None


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        twice = Counter(name for name, _ in members).most_common(1)[0][0]
        raise StampError(f"{twice!r:.80} stands there twice", remedy="leave one out")
    return made
