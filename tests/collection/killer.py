"""Writers that are killed: `python killer.py FILE ROUNDS`, run by test_sqlite.py.

Each round a child opens the collection and changes it without pause, saying each version that was acknowledged, until
SIGKILL comes at a random moment, mostly after the first of them. Then everything acknowledged must be there, nothing
half, the file sound.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np

from handful.collection import EncoderIdentity, NewExample, create_collection, open_collection


def examples(label: str, numbers: list[int]) -> list[NewExample]:
    return [NewExample(label, np.full(3, n, np.float32), str(n), "") for n in numbers]


def write(path: Path, seed: int, pipe: int) -> None:
    chance = random.Random(seed)
    store = open_collection(path)
    while True:
        there = [one.id for one in store.read().examples]
        kind = chance.choice(["add", "add", "remove", "undo"])
        if kind == "undo" and store.version > 1 and any(c.action != "undo" for c in store.history()[-1:]):
            version = store.undo()
        elif kind == "remove" and len(there) > 6:
            version = store.remove(chance.sample(there, 2))
        else:
            version = store.add(examples("pair", [seed, seed]))
        os.write(pipe, f"{version}\n".encode())


def check(path: Path, acknowledged: int, before: int) -> int:
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()
    with open_collection(path) as store:
        version = store.version
        assert acknowledged <= version <= max(acknowledged, before) + 1, (acknowledged, version)
        assert [change.version for change in store.history()] == list(range(1, version + 1))
        assert len(store.read().examples) % 2 == 0  # pairs come and go together
        for one in (version, max(1, version - 3)):
            store.read(one)
    return version


def main(path: Path, rounds: int) -> None:
    create_collection(path, EncoderIdentity("tiny", "", 3), {}, examples("first", [1, 2, 3, 4])).close()
    version, killed_while_writing = 1, 0
    for seed in range(rounds):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                write(path, seed, writer)
            finally:
                os._exit(1)
        os.close(writer)
        first = os.read(reader, 1) if seed % 4 else b""  # a slow machine would be killed before it writes anything
        time.sleep(random.Random(-seed).uniform(0.005, 0.06))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        said = (first + os.read(reader, 1 << 20)).decode().splitlines()
        os.close(reader)
        killed_while_writing += bool(said)
        version = check(path, int(said[-1]) if said else version, version)
    print(rounds, killed_while_writing, version)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
