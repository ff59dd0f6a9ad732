"""Downloads from a server on this machine: resumed only where it is the same file, and whole or refused."""
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spa_lib.utils import download

OLD = bytes(range(256)) * 100
NEW = bytes(reversed(range(256))) * 120
HALF = 10_000


class Server:
    """One file behind an address, whose content, headers and habits a test sets."""
    content = OLD
    etag: str | None = '"old"'
    modified: str | None = None
    cut: int | None = None # close the connection after so many bytes
    has_ranges = True
    heeds_if_range = True
    says_length = True
    says_range = True

    def __init__(self):
        self.asked = [] # headers of each request
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/x.bin"

    def changes(self):
        """Another version stands there now."""
        self.content, self.cut = NEW, None
        self.etag = self.etag and '"new"'
        self.modified = self.modified and formatdate(2_000, usegmt=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, about, *args):
        self.about = about
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_GET(self):
        about = self.about
        about.asked.append(dict(self.headers))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if about.has_ranges else 0
        condition = self.headers.get("If-Range")
        if about.heeds_if_range and condition not in (None, about.etag, about.modified):
            start = 0
        size = len(about.content)
        whole = not (self.headers.get("Range") and about.has_ranges) or (condition and start == 0)
        if not whole and start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if whole else 206)
        body = about.content[start:]
        if about.says_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        if not whole and about.says_range:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for name, value in (("ETag", about.etag), ("Last-Modified", about.modified)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if about.cut is None else body[:about.cut])
        self.close_connection = about.cut is not None or not about.says_length


@pytest.fixture
def server():
    about = Server()
    yield about
    about.server.shutdown()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.bin"


def fetch(server, path, **options):
    return download(server.url, path, progress=False, **options).read_bytes()


def begin(server, path):
    """A download that breaks off in the middle."""
    server.cut = HALF
    with pytest.raises(OSError, match="Call again to resume"):
        fetch(server, path)
    server.cut = None
    assert path.with_name("x.bin.part").stat().st_size == HALF


def nothing_is_left(path):
    return [file.name for file in path.parent.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("etag, modified", [
    ('"old"', None), (None, formatdate(1_000, usegmt=True)), ('W/"weak"', formatdate(1_000, usegmt=True)),
])
def test_the_same_file_is_resumed(etag, modified, server, path):
    server.etag, server.modified = etag, modified
    begin(server, path)
    assert fetch(server, path) == OLD and nothing_is_left(path)
    asked = server.asked[-1]
    validator = modified if etag is None or etag.startswith("W/") else etag
    assert asked["Range"] == f"bytes={HALF}-" and asked["If-Range"] == validator


@pytest.mark.parametrize("heeds_if_range", [True, False])
@pytest.mark.parametrize("etag, modified", [('"old"', None), (None, formatdate(1_000, usegmt=True))])
def test_another_version_is_not_spliced_on(etag, modified, heeds_if_range, server, path):
    server.etag, server.modified, server.heeds_if_range = etag, modified, heeds_if_range
    begin(server, path)
    server.changes()
    assert fetch(server, path) == NEW and nothing_is_left(path)


def test_a_part_of_which_nothing_is_known_is_begun_afresh(server, path):
    path.with_name("x.bin.part").write_bytes(NEW[:HALF]) # as earlier versions left it
    assert fetch(server, path) == OLD
    path.unlink()
    server.etag = None
    begin(server, path) # the server gives nothing to know the version by
    server.changes()
    assert fetch(server, path) == NEW and "Range" not in server.asked[-1]


def test_a_part_of_another_address_is_begun_afresh(server, path):
    begin(server, path)
    other = Server()
    other.content = NEW
    assert fetch(other, path) == NEW and "Range" not in other.asked[-1]
    other.server.shutdown()


@pytest.mark.parametrize("extra", [0, 1, 5000])
def test_a_part_that_is_whole_or_longer(extra, server, path):
    begin(server, path)
    path.with_name("x.bin.part").write_bytes(OLD + bytes(extra))
    assert fetch(server, path) == OLD and nothing_is_left(path)


def test_416_with_another_length_is_not_done(server, path):
    begin(server, path)
    server.content = OLD[:HALF // 2] # shorter now, under the same tag
    assert fetch(server, path) == OLD[:HALF // 2]


@pytest.mark.parametrize("habit", ["has_ranges", "says_range"])
def test_a_server_that_does_not_resume(habit, server, path):
    begin(server, path)
    setattr(server, habit, False)
    assert fetch(server, path) == OLD


def test_the_published_size_is_compared_before_and_after(server, path):
    with pytest.raises(ValueError, match=f"{len(OLD):,} bytes.*{len(OLD) + 1:,}"):
        fetch(server, path, size=len(OLD) + 1)
    assert not list(path.parent.iterdir())
    server.says_length = False
    with pytest.raises(ValueError, match=f"{len(OLD):,} bytes"):
        fetch(server, path, size=len(OLD) + 1)
    assert fetch(server, path, size=len(OLD)) == OLD
    path.write_bytes(OLD[:-1])
    with pytest.raises(ValueError, match="Delete it"):
        fetch(server, path, size=len(OLD))


def test_what_is_fetched_is_checked_before_it_gets_its_name(server, path):
    def refuse(part):
        assert part.read_bytes() == OLD
        raise ValueError("not an archive")

    with pytest.raises(ValueError, match="not an archive"):
        fetch(server, path, check=refuse)
    assert not path.exists()


def test_a_broken_note_beside_a_part_is_passed_over(server, path):
    begin(server, path)
    path.with_name("x.bin.part.json").write_text("{")
    assert fetch(server, path) == OLD
    assert "Range" not in server.asked[-1]


def test_the_note_says_what_the_part_is_of(server, path):
    begin(server, path)
    note = json.loads(path.with_name("x.bin.part.json").read_text())
    assert note == {"url": server.url, "validator": '"old"', "size": len(OLD)}


def test_a_digest_that_differs_is_refused(server, path):
    with pytest.raises(ValueError, match="expected 0000"):
        fetch(server, path, sha256="0" * 64)
    assert not list(path.parent.iterdir())
    assert fetch(server, path, sha256=hashlib.sha256(OLD).hexdigest()) == OLD


def test_two_at_once_fetch_it_once(server, path):
    server.content = OLD * 200
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: download(server.url, path, progress=False), range(4)))
    assert found == [path] * 4 and path.read_bytes() == OLD * 200
    assert len(server.asked) == 1 and nothing_is_left(path)
