"""Threads that share a recognizer, and processes that share a collection."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from handful.recognizer import Answer, open_recognizer, teach

TEXTS = {"light": ["turn on the light", "lamp off"], "music": ["play a song", "louder music"]}


def test_threads_ask_while_one_teaches(tmp_path: Path) -> None:
    asked = ["the light please", "another song", "what is the weather"]
    with teach(TEXTS, tmp_path / "home", encoder="ngrams") as shop:

        def turn(number: int) -> list[Answer]:
            if number % 5 == 0:
                shop.add(f"class {number % 3}", [f"a new sentence, number {number}"])
            return shop.recognize_many(asked)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(turn, range(40)))
        assert len(shop.history()) == 1 + 8
        by_version: dict[int, list[Answer]] = {shop.collection.version: shop.recognize_many(asked)}
        for answers in found:  # each by one version, whole
            assert by_version.setdefault(answers[0].version, answers) == answers


ADDER = """
import sys
from handful.errors import DataError
from handful.recognizer import open_recognizer
place, label = sys.argv[1:]
with open_recognizer(place) as shop:
    print("ready", flush=True)
    sys.stdin.readline()
    added = 0
    for number in range(20):
        try:
            shop.add(label, [f"sentence number {number}"])
            added += 1
        except DataError as error:
            assert "already; nothing was added" in str(error), error
    print(added)
"""


def test_processes_add_the_same_things_at_the_same_time(tmp_path: Path) -> None:
    place = str(tmp_path / "home")
    with teach(TEXTS, place, encoder="ngrams") as reader:
        adders = [
            subprocess.Popen(
                [sys.executable, "-c", ADDER, place, label], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for label in ("light", "music")
        ]
        for adder in adders:
            assert adder.stdout is not None
            assert adder.stdout.readline() == "ready\n"
        for adder in adders:
            assert adder.stdin is not None
            adder.stdin.write("\n")
            adder.stdin.flush()
        versions = []
        while any(adder.poll() is None for adder in adders):
            versions.append(reader.recognize("sentence number 7").version)  # never waits, never fails
        added = [int(adder.communicate()[0]) for adder in adders]
        assert sum(added) == 20
        assert versions == sorted(versions)
        contents = [one.sha256 for one in reader.collection.read().examples]
        assert len(contents) == len(set(contents)) == 4 + 20
    with open_recognizer(place) as shop:
        assert shop.collection.version == 1 + 20
