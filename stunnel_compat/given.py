"""What was given to one section: its settings, read and in order, the defaults first.

Owns the rules of which line counts. Several lines of a list add up, of anything else the
last one counts; of options that write the same thing (``sequence``) every line does, over
the ones before. Mistakes are collected here, not raised, so that all can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from _udp2tls.config import ConfigError
from stunnel_compat.options import Option, Treatment
from stunnel_compat.parser import Section, Setting, lower
from stunnel_compat.service import Service

# Options that write over each other, so that a later line of one outdoes an earlier one of another.
VERIFYING = ("verify", "verifychain", "verifypeer")
VERSIONS = ("sslversion", "sslversionmin", "sslversionmax")


class Reading(NamedTuple):
    """A setting, its row of the table, and what its value says."""

    setting: Setting
    option: Option
    value: object

    @property
    def key(self) -> str:
        return lower(self.option.name)

    @property
    def treatment(self) -> Treatment:
        return self.option.treat(self.value)


@dataclass
class Outcome:
    """What came of a section, or of the lines before the first."""

    section: Section
    readings: list[Reading] = field(default_factory=list)  # its own lines alone
    errors: list[ConfigError] = field(default_factory=list)
    misread: set[str] = field(default_factory=set)  # options with a wrong value: nothing follows from their absence
    treatments: dict[int, Treatment] = field(default_factory=dict)  # what differs from the table, by id of the setting
    used: set[int] = field(default_factory=set)  # ids of the settings that count, defaults among them
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    service: Service | None = None
    server: bool = False  # no client section
    skipped: str = ""  # why it is not run, although nothing is wrong with it


class Given:
    """See the file's docstring. What is found goes into the outcome."""

    def __init__(self, outcome: Outcome, readings: Sequence[Reading]) -> None:
        self.outcome = outcome
        self.section = outcome.section
        self.errors, self.warnings, self.notes = outcome.errors, outcome.warnings, outcome.notes
        self._readings = readings
        self._last = {reading.key: reading for reading in readings}
        together = (*VERIFYING, *VERSIONS)
        counts = [r for r in readings if r.option.many or r.key in together or self._last[r.key] is r]
        outcome.used.update(id(reading.setting) for reading in counts)
        self.counting = counts

    def all(self, key: str) -> list[Reading]:
        return self.sequence(key)

    def sequence(self, *keys: str) -> list[Reading]:
        """Return the lines of some options in their order."""
        return [reading for reading in self._readings if reading.key in keys]

    def last(self, key: str) -> Reading | None:
        return self._last.get(key)

    def text(self, key: str) -> str:
        return self._last[key].setting.value if key in self._last else ""

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._last[key].value) if key in self._last else default

    def number(self, key: str, default: int) -> int:
        value = self._last[key].value if key in self._last else default
        return value if isinstance(value, int) else default

    def pairs(self, key: str) -> list[tuple[Reading, tuple[object, object]]]:
        """Return the lines whose values are pairs, with those."""
        return [(r, r.value) for r in self.all(key) if isinstance(r.value, tuple) and len(r.value) == 2]

    def parts(self, key: str) -> tuple[str, ...]:
        """Return the parts of a list within one value."""
        value = self._last[key].value if key in self._last else ()
        return value if isinstance(value, tuple) else ()

    def mistake(self, problem: str, remedy: str, at: Reading | None = None) -> None:
        """Note an error about what stands together: at a line of this section, else at its head."""
        error = self.section.mistake(problem, remedy)
        if at in self.outcome.readings:
            line = at.setting
            error = ConfigError(
                error.problem, text=line.text, span=(line.name_at, line.at + max(1, len(line.value))),
                where=line.where, remedy=remedy,
            )  # fmt: skip
        self.errors.append(error)
