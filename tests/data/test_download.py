import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from handful.data.download import download
from handful.errors import DownloadError, StorageError

CONTENT = bytes(range(256)) * 1000
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
OFFLINE = "handful data add omniglot --from FOLDER"


class Server(ThreadingHTTPServer):
    """Serves CONTENT at every path, well or badly."""

    content = CONTENT
    ranges = True  # answers Range requests
    cuts = 0  # answers still to be cut in half
    wait = 0.0  # seconds before an answer
    codes: list[int]  # HTTP errors still to be answered
    asked: list[str | None]  # the Range of each request so far

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, span = self.server, self.headers["Range"]
        server.asked.append(span)
        time.sleep(server.wait)
        if server.codes:
            self.send_error(server.codes.pop(0))
            return
        start = int(span[len("bytes=") : -1]) if span and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.codes, server.asked = [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(url: str, path: Path, checksum: str = MD5) -> Path:
    return download(url, path, checksum=checksum, offline=OFFLINE, pause=0)


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_a_file_comes_once(server: Server, tmp_path: Path, checksum: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "file.zip"
    assert fetch(server.url, path, checksum) == path
    assert path.read_bytes() == CONTENT
    fetch(server.url, path, checksum)
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["file.zip"]
    assert capfd.readouterr() == ("", "")  # no bar where there is no terminal


def test_one_fetches_a_file_and_others_wait(server: Server, tmp_path: Path) -> None:
    server.wait = 0.2
    with ThreadPoolExecutor(3) as threads:
        paths = list(threads.map(lambda _: fetch(server.url, tmp_path / "file.zip"), range(3)))
    assert [path.read_bytes() for path in paths] == [CONTENT] * 3
    assert server.asked == [None]


def test_a_file_that_is_not_the_published_one_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file.zip"
    path.write_bytes(CONTENT[:-1])
    assert fetch(server.url, path).read_bytes() == CONTENT


def test_a_half_download_is_carried_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_download_killed_before_its_last_step_is_finished(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"y" * 1000, b"y" * (len(CONTENT) + 1)])
def test_a_wrong_half_is_thrown_away(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.zip.part").write_bytes(left)
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(left)}-", None]


def test_a_body_cut_short_is_carried_on(server: Server, tmp_path: Path) -> None:
    server.cuts = 2
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=128000-", "bytes=192000-"]


def test_bodies_always_cut_short_are_told_and_kept(server: Server, tmp_path: Path) -> None:
    server.cuts = 99
    with pytest.raises(DownloadError, match="expected 256000 bytes, got 240000") as caught:
        fetch(server.url, tmp_path / "file.zip")
    assert OFFLINE in str(caught.value)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:240000]


def test_a_wrong_checksum_is_told_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(DownloadError) as caught:
        fetch(server.url, tmp_path / "file.zip")
    found = hashlib.md5(server.content).hexdigest()
    for part in (server.url, f"expected checksum {MD5}", f"got md5:{found}", OFFLINE):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_a_passing_http_error_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.codes = [503, 429]
    assert fetch(server.url, tmp_path / "file.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(("codes", "requests"), [([404] * 9, 1), ([503] * 9, 4)])
def test_an_http_error_is_told(server: Server, tmp_path: Path, codes: list[int], requests: int) -> None:
    server.codes = list(codes)
    with pytest.raises(DownloadError, match=f"HTTP {codes[0]}") as caught:
        fetch(server.url, tmp_path / "file.zip")
    assert OFFLINE in str(caught.value)
    assert len(server.asked) == requests


def test_no_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: refused
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
        with pytest.raises(DownloadError, match="no answer from the network") as caught:
            fetch(url, tmp_path / "file.zip")
    assert OFFLINE in str(caught.value)


def test_a_full_disk_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        fetch(server.url, tmp_path / "file.zip")
    assert "HANDFUL_DATA" in str(caught.value)
    assert OFFLINE in str(caught.value)
    assert not (tmp_path / "file.zip").exists()


def test_a_place_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="HANDFUL_DATA"):
        fetch(server.url, tmp_path / "file" / "file.zip")
    assert server.asked == []
