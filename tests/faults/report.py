"""What a scenario found: figures, and for each criterion whether it is met."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.client import Record, shown


@dataclass(frozen=True)
class Result:
    forwarder: str
    number: str
    scenario: str
    passed: bool
    figures: str
    seconds: float


@dataclass
class Report:
    """``scale`` stretches limits of time, for machines with other things to do. Nothing else is ever loosened."""

    scale: float = 1.0
    passed: bool = True
    _said: list[str] = field(default_factory=list)

    @property
    def figures(self) -> str:
        return "; ".join(self._said)

    def note(self, said: str) -> None:
        self._said.append(said)

    def expect(self, true: bool, said: str) -> None:
        """Say a figure, and fail when it is not ``true`` that it will do."""
        self._said.append(said if true else f"NOT MET: {said}")
        self.passed = self.passed and true

    def within(self, seconds: float, limit: float, what: str) -> None:
        limit *= self.scale
        self.expect(seconds <= limit, f"{what} {shown(seconds)} (limit {shown(limit)})")

    def all_right(self, record: Record, limit: float = 0.0, what: str = "") -> None:
        """Expect every query answered rightly, no stray answers, and within ``limit`` seconds if there is one."""
        prefix = f"{what}: " if what else ""
        late = sum(not ask.took <= limit * self.scale for ask in record.asks) if limit else 0
        said = f"{prefix}{record}"
        if limit:
            said += f", {late} over {shown(limit * self.scale)}"
        self.expect(record.all_right and not late and not record.stray, said)
