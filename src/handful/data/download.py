"""Files from the network: resumed where they broke off, and trusted only by their checksum."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..errors import DownloadError, StorageError
from ..files import alone, storage_errors
from ..progress import progress

__all__ = ["download"]

CHUNK = 1 << 16  # bytes read at a time
TIMEOUT = 30  # seconds without a byte
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers worth another try


def download(
    url: str,
    path: Path,
    *,
    checksum: str,
    offline: str,
    size: int | None = None,
    attempts: int = 4,
    pause: float = 1.0,
) -> Path:
    """Fetch a published file, or find it already there. Returns `path`.

    What has come is kept in `path` + '.part'; the next try, in this process or another, carries on there. Of several
    processes one fetches and the others wait.

    Args:
        url: where it is published.
        path: where it goes; appears whole or not at all.
        checksum: 'md5:...' or 'sha256:...', in hexadecimal.
        offline: the command that does without the network; every error names it.
        size: bytes expected, if known.
        attempts: how many times to try.
        pause: seconds before the second try, doubled for each one after.

    Raises:
        DownloadError: no network, an HTTP error, or a file that is not the published one.
        StorageError: full disk, no permission.
    """
    remedy = f"Without the network: fetch {url} elsewhere, then run `{offline}`."
    try:
        if _there(path, checksum):
            return path
        with alone(path):
            problem = None if _there(path, checksum) else _tried(url, path, checksum, size, attempts, pause)
        if problem is not None:
            raise DownloadError(f"cannot download {url}: {problem}. {remedy}")
        return path
    except HTTPError as error:
        raise DownloadError(f"cannot download {url}: HTTP {error.code} {error.reason}. {remedy}") from error
    except StorageError as error:
        raise StorageError(f"{error}. HANDFUL_DATA chooses the folder for data. {remedy}") from error


def _there(path: Path, checksum: str) -> bool:
    with storage_errors(path):
        return path.is_file() and _digest(path, checksum) == checksum


def _tried(url: str, path: Path, checksum: str, size: int | None, attempts: int, pause: float) -> str | None:
    """Fetch the file; the problem if that failed."""
    part, problem = path.with_name(path.name + ".part"), ""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(attempts):
        time.sleep(pause * 2 ** (attempt - 1) if attempt else 0)
        resumed = part.exists()
        try:
            _fetch(url, part, size)
        except _PassingError as error:
            problem = str(error)
            continue
        with storage_errors(path):
            found = _digest(part, checksum)
            if found == checksum:
                os.replace(part, path)
                return None
            part.unlink()
        problem = f"expected checksum {checksum}, got {found}: not the published file, so it was removed"
        if not resumed:
            break
    return problem


class _PassingError(Exception):
    """A try failed in a way that may pass."""


def _fetch(url: str, part: Path, size: int | None) -> None:
    """Carry on with `part` to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "handful"} | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:
            return  # nothing comes after what is there: its checksum will tell whether that is all
        if error.code not in PASSING:
            raise
        raise _PassingError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _PassingError(f"no answer from the network ({error})") from error
    with response:
        start, total = _span(response, size)
        if start not in (0, have):
            raise _PassingError(f"expected bytes from {have} on, got bytes from {start} on")
        with (
            storage_errors(part),
            open(part, "ab" if start else "wb") as file,
            progress(f"downloading {part.stem}", total) as advance,
        ):
            advance(start)
            for chunk in _chunks(response):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            came = file.tell()
    if total not in (None, came):
        raise _PassingError(f"expected {total} bytes, got {came}")


def _span(response: HTTPResponse, size: int | None) -> tuple[int, int | None]:
    """Where in the file the body begins, and how long the whole file is, in bytes."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status == 206 and span:
        return int(span[1]), size if span[2] == "*" else int(span[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else size


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise _PassingError(f"the connection broke off ({error})") from error
        if not chunk:
            return
        yield chunk


def _digest(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as `like`."""
    kind = like.partition(":")[0]
    with open(path, "rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"
