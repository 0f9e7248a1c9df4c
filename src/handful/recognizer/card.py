"""A model card: what somebody who is handed a recognizer must know (Mitchell et al. 2019, arXiv:1810.03993)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..collection import Snapshot
from ..ops.conformal import examples_needed
from ..version import __version__
from .about import about
from .answers import percent
from .embedders import Embedder
from .report import ASSUMPTIONS, Report

__all__ = ["card"]

SHOWN = 200
"""Classes and findings that a card lists one by one."""


def card(report: Report, snapshot: Snapshot, embedder: Embedder) -> str:
    """In Markdown, from the report of a version.

    Args:
        report: of the recognizer.
        snapshot: the version it is about.
        embedder: what made its vectors.
    """
    sections = (
        _head(report, snapshot, embedder),
        _taught(report),
        _promise(report),
        _probabilities(report),
        _findings(report),
        _encoder(embedder),
        _terms(embedder),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(report: Report, snapshot: Snapshot, embedder: Embedder) -> list[str]:
    examples, classes = len(snapshot.examples), len(report.classes)
    return [
        f"# {Path(report.place).stem}",
        "",
        f"Tells {classes} class{'es' * (classes != 1)} of {embedder.kind} apart, taught with {examples} "
        f"example{'s' * (examples != 1)}. Answers with a label, its probability, and a set of candidates; or that a "
        "thing is unknown.",
        "",
        f"- Version {report.version} of the collection; card of {datetime.now(UTC):%Y-%m-%d}, by Handful {__version__}",
        f"- Rule: {report.head}; vectors by {_name(embedder)} ({embedder.identity.features} numbers)",
        *(f"- Examples added from {min(days)} to {max(days)}" for days in [_days(snapshot)] if days),
    ]


def _days(snapshot: Snapshot) -> list[str]:
    return [one.added[:10] for one in snapshot.examples]


def _taught(report: Report) -> list[str]:
    lines = ["## Taught with", "", "| class | examples | promise of its own |", "|---|---|---|"]
    for label, size in list(report.classes.items())[:SHOWN]:
        more = report.missing.get(label, 0)
        own = f"{percent(1 - report.epsilon)}" if not more else f"none: {more} more example{'s' * (more > 1)} needed"
        lines.append(f"| {_plain(label)} | {size} | {own} |")
    if len(report.classes) > SHOWN:
        lines.append(f"\nand {len(report.classes) - SHOWN} classes more.")
    return lines


def _promise(report: Report) -> list[str]:
    return [
        "## What is promised",
        "",
        f"The true class is among the candidates: {report.promise}. A known thing is called unknown at most "
        f"{percent(report.missed)} of the time. {examples_needed(report.epsilon)} examples are needed for such a "
        "promise, of all classes together or of a class for one of its own (conformal prediction).",
        "",
        "This holds if:",
        "",
        *(f"- {assumption}" for assumption in ASSUMPTIONS),
        "",
        "Nothing is promised about how many strangers, things of no class taught, are called unknown. Do not rely on "
        "it to keep them out.",
    ]


def _probabilities(report: Report) -> list[str]:
    found = report.calibration
    if not found.examples:
        return ["## Probabilities", "", "Not calibrated: no class has two examples, or there is one class only."]
    return [
        "## Probabilities",
        "",
        f"Of {found.examples} examples, each judged without itself, {100 * found.accuracy:.1f}% were right. "
        f"Log loss (NLL) {found.log_loss:.3f}, expected calibration error (ECE) {found.error:.3f}. These are the "
        "examples it was taught with: things asked later may be harder.",
    ]


def _findings(report: Report) -> list[str]:
    lines = ["## Likely mistakes among the examples", ""]
    if not report.findings:
        lines.append("None found.")
    lines += [f"- {finding.kind}: {_plain(finding.message)}" for finding in report.findings[:SHOWN]]
    if len(report.findings) > SHOWN:
        lines.append(f"- and {len(report.findings) - SHOWN} more")
    return [*lines, "", f"Next: {report.next}."]


def _encoder(embedder: Embedder) -> list[str]:
    return [
        "## Encoder",
        "",
        f"- Name: {_name(embedder)}; sha256 of what decides its vectors: {embedder.identity.sha256}",
        f"- Trained on: {about(embedder).data}",
        "- If it was trained on things taught or asked here, the promise does not hold for these.",
    ]


def _terms(embedder: Embedder) -> list[str]:
    return [
        "## Terms",
        "",
        f"- Encoder: {about(embedder).licence}",
        "- Examples: theirs; an export holds their vectors, names and, of texts, their beginnings. Whoever has it has "
        "these.",
        "- Not for decisions about people that the law or good sense leaves to people.",
    ]


def _name(embedder: Embedder) -> str:
    return Path(embedder.identity.name).name


def _plain(text: str) -> str:
    """A text that Markdown does not take for its own signs."""
    return "".join(f"\\{sign}" if sign in "\\|*_`<[#" else sign for sign in text)
