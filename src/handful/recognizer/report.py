"""What a recognizer can promise and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..ops.conformal import examples_needed
from ..ops.temperature import Calibration
from .answers import percent
from .doctor import Finding

__all__ = ["ASSUMPTIONS", "Report"]

ASSUMPTIONS = (
    "What is asked comes from where the examples came from: the same source, light, camera, time, and way of choosing.",
    "Classes are asked for in the shares that they have among the examples. A class with a promise of its own does not "
    "need this. The same number of examples of each class errs on the safe side.",
    "Examples are different things: copies, or many pictures of one object, count as one.",
    "That a stranger is called unknown is not promised; that a known thing is not, is.",
)
"""What every promise rests on."""


@dataclass(frozen=True)
class Report:
    """See `Recognizer.report`.

    Attributes:
        classes: number of examples of each.
        missing: for each class without a promise of its own, how many examples it needs more.
        calibration: of the probabilities, on the examples, each judged without itself.
        findings: likely mistakes in the examples.
        next: what to add first.
        missed: how often the true class may be missing among the candidates, and a known thing be refused, at most.
    """

    place: str
    version: int
    encoder: str
    head: str
    epsilon: float
    promise: str
    classes: Mapping[str, int]
    missing: Mapping[str, int]
    calibration: Calibration
    findings: tuple[Finding, ...]
    next: str
    missed: float

    def table(self) -> dict[str, Any]:
        """As JSON values."""
        numbers = {name: None if value != value else value for name, value in self.calibration._asdict().items()}
        findings = [finding._asdict() for finding in self.findings]
        return asdict(self) | {"calibration": numbers, "findings": findings, "assumptions": list(ASSUMPTIONS)}

    def __str__(self) -> str:
        examples, classes = sum(self.classes.values()), len(self.classes)
        lines = [
            f"{self.place}, version {self.version}: {examples} examples of {classes} class{'es' * (classes != 1)}",
            f"Vectors by {self.encoder}; answers by {self.head}",
            f"Promise that the true class is among the candidates: {self.promise}",
            f"A known thing is called unknown at most {percent(self.missed)} of the time (--epsilon sets it); "
            f"{examples_needed(self.epsilon)} examples are needed for such a promise.",
        ]
        if self.calibration.examples:
            found = self.calibration
            lines.append(
                f"Each of {found.examples} examples judged without itself: {100 * found.accuracy:.1f}% right, "
                f"log loss {found.log_loss:.3f}, calibration error {found.error:.3f}"
            )
        else:
            lines.append("Probabilities are not calibrated: no class has two examples, or there is one class only")
        lines.append("Classes: " + ", ".join(f"{label} {size}" for label, size in list(self.classes.items())[:50]))
        lines += [f"Look at: {finding.message}" for finding in self.findings[:20]]
        if len(self.findings) > 20:
            lines.append(f"and {len(self.findings) - 20} more (--json lists all)")
        lines.append(f"Next: {self.next}")
        lines.append("This holds if:")
        return "\n".join([*lines, *(f"- {assumption}" for assumption in ASSUMPTIONS)])
