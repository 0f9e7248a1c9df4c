"""A collection, an encoder, a rule with a closed form, and a promise: gives answers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self, final

import numpy as np
from numpy.typing import NDArray

from ..collection import Change, Collection, Snapshot, speller
from ..errors import CollectionError, DataError
from ..ops.choosing import Chosen
from ..ops.conformal import examples_needed, p_values, refusals_are_too_many
from ..ops.heads import strangeness
from ..ops.nearest_mean import NearestMean, fit_nearest_mean
from ..ops.temperature import Calibration, probabilities
from .answers import Answer, Neighbor, answered, checked_epsilon
from .card import card
from .descriptions import NAMES, described, read_descriptions
from .doctor import examine
from .embedders import Embedder, embedded
from .fitting import kept, missed, promised, refuse_ways, said
from .in_memory import class_name, ids
from .inputs import Item, asked, without_copies
from .learned import Learned, learn, to_add_next
from .pixels import readable
from .report import Report
from .suggestions import Suggestion, suggestions
from .thumbnails import with_thumbnails

__all__ = ["Recognizer"]

NEAREST = 3
CHUNK = 1 << 20
"""Things times classes that are answered together."""


@final
class Recognizer:
    """See `teach` and `open_recognizer`. Its examples are all it is: what is removed has no influence any more.

    Args:
        collection: the examples taught, with their vectors.
        embedder: makes the vectors of what is asked or added; the one that made the collection's.
        calibration: of the probabilities; None: found from the examples.
    """

    def __init__(self, collection: Collection, embedder: Embedder, *, calibration: Calibration | None = None) -> None:
        self.collection = collection
        self._embedder = embedder
        self._calibration = calibration
        self._learned: Learned | None = None

    @property
    def epsilon(self) -> float:
        """How often a known thing may be refused wrongly, as set when it was taught."""
        return float(self.collection.settings["epsilon"])

    def recognize(self, thing: object, *, epsilon: float | None = None) -> Answer:
        """What a thing is: a picture's path, a text, or a vector.

        Raises:
            DataError: it cannot be read, or there are several.
        """
        answers = [] if getattr(thing, "ndim", 1) == 2 else self.recognize_many([thing], epsilon=epsilon)
        if len(answers) != 1:
            raise DataError("recognize: expected one thing; recognize_many takes several, in a list")
        return answers[0]

    def recognize_many(
        self,
        things: Sequence[object],
        *,
        epsilon: float | None = None,
        skip_unreadable: bool = False,
        encoding: str = "utf-8",
    ) -> list[Answer]:
        """What each thing is, in order; pictures that cannot be read are left out if asked, with a warning.

        Tables among them are in this encoding. Warns if so many are refused that they cannot be like the examples: then
        nothing is promised for them.

        Raises:
            DataError: something that cannot be read.
        """
        e = checked_epsilon(self.epsilon if epsilon is None else epsilon)
        learned = self._current()
        items = self._asked(things, encoding)
        if skip_unreadable:
            items = readable(items, self._embedder.form)
        if not items:
            return []
        z = self._vectors(items)
        names, counts, version = learned.names, learned.counts, learned.snapshot.version
        holds, answers = promised(learned.head, counts, e), list[Answer]()
        step = max(1, CHUNK // len(names))
        for start in range(0, len(z), step):  # for each thing and class there are numbers: not of all at once
            part = z[start : start + step]
            p = probabilities(strangeness(learned.head, part), learned.calibration.temperature)
            stays = kept(learned.head, p_values(learned.head, part), learned.sizes, e)
            rows = zip(items[start : start + step], p, stays, self._nearest(learned, part), strict=True)
            answers += [
                answered(item.preview or item.source, names, counts, each, inside, near, e, holds, version)
                for item, each, inside, near in rows
            ]
        refused = sum(answer.unknown for answer in answers)
        if refusals_are_too_many(refused, len(answers), min(0.999, missed(learned.head, e))):
            warnings.warn(
                f"{refused} of {len(answers)} are unlike every example, where at most {e:g} of known things would be: "
                "they are strangers, or the examples were taken otherwise (light, camera, time, wording), and then "
                "nothing is promised for the others either. Add some of these to their classes",
                stacklevel=2,
            )
        return answers

    def add(
        self, label: str | int, things: Sequence[object], *, skip_unreadable: bool = False, encoding: str = "utf-8"
    ) -> int:
        """Examples of a class, known or new; at once, without training. The version made.

        Pictures that cannot be read are left out if asked, with a warning. Tables among them are in this encoding.

        Raises:
            DataError: something that cannot be read, or that is an example already; nothing that can be read.
        """
        labels = self.collection.labels
        label = speller(labels)(class_name(label, "add").strip())
        items = [item._replace(label=label) for item in self._asked(things, encoding)]
        if skip_unreadable:
            items = readable(items, self._embedder.form)
            if not items:
                raise DataError(f"add, class {label!r}: expected pictures that can be read, found none")
        refuse_ways(self._embedder, len({label, *labels}))
        head = str(self.collection.settings["head"])
        vectors = self.collection.settings["kind"] == "vectors"
        known = {item.sha256 for item in items if vectors and self.collection.find(item.sha256)}
        items = without_copies(items, known)
        rows = with_thumbnails(embedded(self._embedder, items, head), items)
        if head == NAMES and label not in labels:
            rows = [*described(self._embedder, read_descriptions([label])), *rows]
        new = set() if vectors else {item.sha256 for item in items}
        return self.collection.add(rows, new=new)

    def suggest(
        self, things: Sequence[object], *, count: int = 20, skip_unreadable: bool = False, encoding: str = "utf-8"
    ) -> list[Suggestion]:
        """What to label next: of things without labels those that would teach the most, first the most useful.

        Copies, and what is an example already, are left out, and pictures that cannot be read if asked, with a warning.
        Tables among them are in this encoding.

        Raises:
            DataError: something that cannot be read; a count below 1.
        """
        if count < 1:
            raise DataError(f"count: expected how many to suggest, at least 1, got {count}")
        learned = self._current()
        there = {one.sha256 for one in learned.snapshot.examples}
        new = {item.sha256: item for item in self._asked(things, encoding)}
        items = [item for item in new.values() if item.sha256 not in there]
        if skip_unreadable:
            items = readable(items, self._embedder.form)
        return suggestions(learned, items, self._vectors(items), count, self.epsilon) if items else []

    def remove(self, examples: Sequence[int] | int) -> int:
        """Take examples out, by their ids; as if they had never been there."""
        return self.collection.remove(ids(examples))

    def rename(self, label: str | int, new: str | int) -> int:
        """Give a class another name."""
        return self.collection.rename(class_name(label, "rename"), class_name(new, "rename"))

    def merge(self, labels: Sequence[str | int], into: str | int) -> int:
        """Make one class of several."""
        known = labels if isinstance(labels, str) else [class_name(label, "merge") for label in labels]
        return self.collection.merge(known, class_name(into, "merge"))

    def undo(self) -> int:
        """Take back the newest change."""
        return self.collection.undo()

    def history(self) -> list[Change]:
        """All changes."""
        return self.collection.history()

    def report(self, *, epsilon: float | None = None) -> Report:
        """What it can and cannot promise, likely mistakes in the examples, and what to add next."""
        return self._report(self._current(), epsilon)

    def _report(self, learned: Learned, epsilon: float | None = None) -> Report:
        e = checked_epsilon(self.epsilon if epsilon is None else epsilon)
        settings, sizes, head = self.collection.settings, learned.counts, learned.head
        if isinstance(head, Chosen) and isinstance(head.rules[0], NearestMean):
            head = head.rules[0]
        elif not isinstance(head, NearestMean):
            head = fit_nearest_mean(learned.snapshot.vectors, learned.y, len(learned.names), "squared")
        needed = examples_needed(e)
        return Report(
            self.collection.place,
            learned.snapshot.version,
            self.collection.encoder.name,
            said(str(settings["head"]), learned.head, self._embedder),
            e,
            promised(learned.head, sizes, e),
            sizes,
            {label: needed - size for label, size in sizes.items() if size < needed},
            learned.calibration,
            tuple(examine(learned.snapshot.examples, head, learned.names)),
            to_add_next(learned),
            missed(learned.head, e),
        )

    def card(self, *, epsilon: float | None = None) -> str:
        """A model card: what it was taught with, what it can promise and what not, in Markdown."""
        learned = self._current()
        return card(self._report(learned, epsilon), learned.snapshot, self._embedder)

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a folder from which `handful.runtime` gives the same answers by onnxruntime, without torch.

        Args:
            folder: the new folder.
            force: whether it may take the place of an older export.

        Raises:
            StorageError: there is something already; nothing can be written.
            DataError: its encoder or head cannot be exported.
            MissingExtraError: the extra `onnx` is not installed.
        """
        from .export import export

        learned = self._current()  # of one version, whatever others change meanwhile

        def written() -> str:
            return card(self._report(learned), learned.snapshot, self._embedder)

        return export(learned, self.collection, self._embedder, written, Path(folder), force=force)

    def close(self) -> None:
        """Let go of the collection."""
        self.collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        place = self.collection.place
        raise CollectionError(
            f"{place}: a recognizer can be neither pickled nor copied, its collection is an open file; "
            + ("teach it with a place (to=...) and open it" if place == ":memory:" else "open it")
            + " there by open_recognizer (an export by open_export), in each process"
        )

    def _asked(self, things: Sequence[object], encoding: str) -> list[Item]:
        return asked(str(self.collection.settings["kind"]), things, encoding=encoding)

    def _current(self) -> Learned:
        version = self.collection.version
        if self._learned is None or self._learned.snapshot.version != version:
            head, before = str(self.collection.settings["head"]), self._learned
            known = None if before is None or head == NAMES else before.snapshot  # which is without descriptions
            snapshot = self.collection.read(known=known)
            self._learned = learn(snapshot, head, self._embedder, self._calibration, before)
        return self._learned

    def _vectors(self, items: Sequence[Item]) -> NDArray[np.float32]:
        rows = embedded(self._embedder, items, str(self.collection.settings["head"]))
        return np.stack([row.vector for row in rows])

    def _nearest(self, learned: Learned, z: NDArray[np.float32]) -> list[tuple[Neighbor, ...]]:
        rows, distances = learned.search.nearest(z, NEAREST)
        return [
            tuple(self._neighbor(learned.snapshot, *near) for near in zip(*found, strict=True))
            for found in zip(rows.tolist(), distances.tolist(), strict=True)
        ]

    def _neighbor(self, snapshot: Snapshot, row: int, distance: float) -> Neighbor:
        one = snapshot.examples[row]
        text = self.collection.preview(one.id)
        return Neighbor(one.id, one.label, one.source, distance, text if isinstance(text, str) else None)
