"""How long teaching, answering and adding take, and how much memory: vectors of clusters that overlap, and pictures.

Teaching and answering vectors is counted in processor time, so that a busy machine disturbs it less; adding, which
waits for the disk, by the clock.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from handful.recognizer import open_recognizer, teach

__all__ = ["FEATURES", "pictures", "vectors"]

CLASSES, SHOTS, FEATURES, ASKED = 1000, 10, 384, 300
STATUS = Path("/proc/self/status")


def vectors(spread: float, seed: int = 0) -> dict[str, Any]:
    """10,000 vectors of 1,000 classes: clusters whose examples lie `spread` times as far apart as their centers."""
    random = np.random.default_rng(seed)
    mixing = (random.normal(size=(FEATURES, FEATURES)) * np.exp(-np.arange(FEATURES) / 40)).astype(np.float32)
    centers = random.normal(size=(CLASSES, FEATURES)).astype(np.float32) @ mixing
    labels = np.repeat(np.arange(CLASSES), SHOTS)

    def near(rows: np.ndarray) -> np.ndarray:
        return centers[rows] + spread * random.normal(size=(len(rows), FEATURES)).astype(np.float32) @ mixing

    x, asked, names = near(labels), near(np.arange(ASKED)), labels.astype(str)
    with tempfile.TemporaryDirectory() as folder:
        with teach((x[:40], names[:40]), Path(folder) / "small") as small:  # libraries are loaded by now
            small.recognize(asked[0])
            small.report()
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        begin = time.process_time()
        teach((x, names), Path(folder) / "shop").close()
        taught = time.process_time() - begin
        seconds, right = [], 0
        with open_recognizer(Path(folder) / "shop") as made:
            begin = time.process_time()
            made.recognize(asked[0])
            first = time.process_time() - begin
            for label, one in enumerate(asked):
                begin = time.process_time()
                right += made.recognize(one).label == str(label)
                seconds.append(time.process_time() - begin)
            peak = _memory("VmHWM") - before
            adding = []
            for number in range(50):
                begin = time.perf_counter()
                made.add(str(number), [x[number] + 1])
                adding.append(time.perf_counter() - begin)
    return {
        "spread": spread,
        "load": os.getloadavg()[0],
        "accuracy": right / ASKED,
        "teach_seconds": taught,
        "first_answer_seconds": first,
        "answer_seconds": float(np.median(seconds)),
        "answer_p99_seconds": float(np.quantile(seconds, 0.99)),
        "add_seconds": float(np.median(adding)),
        "add_p99_seconds": float(np.quantile(adding, 0.99)),
        "memory_bytes": peak,
        "vector_bytes": x.nbytes,
    }


def pictures(encoder: Path | None, classes: int = 10, each: int = 5) -> dict[str, Any]:
    """`handful teach` on JPEG files of 500×375 pixels, from the start of the process to its end."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for label in range(classes):
            (Path(folder) / "photos" / f"class {label}").mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 256, size=(15, 20, 3), dtype=np.uint8)
                large = Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC)
                large.save(Path(folder) / "photos" / f"class {label}" / f"{number}.jpg")
        command = [sys.executable, "-m", "handful", "teach", f"{folder}/photos", "--to", f"{folder}/shop", "--json"]
        seconds = []
        for _ in range(3):
            (Path(folder) / "shop.handful").unlink(missing_ok=True)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command += ["--with", str(encoder)] if encoder and "--with" not in command else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    shown = "a trained Conv4" if encoder else json.loads(done.stdout)["encoder"]
    median = float(np.median(seconds))
    return {"encoder": shown, "classes": classes, "pictures": each, "seconds": median, "load": os.getloadavg()[0]}


def _memory(name: str) -> int:
    """Bytes, as Linux counts them."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])
