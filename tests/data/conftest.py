"""Small audio files and clip tables, and a web server of a folder that fails as it is asked to."""
import http.server
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def noise():
    """A function that writes a file of noise and gives its samples, [frames, channels]."""
    soundfile = pytest.importorskip("soundfile", reason="these tests write their audio files with soundfile")

    def write(path, seconds=1.0, rate=16000, channels=1, seed=0, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        x = 0.2 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)).clip(-4, 4)
        soundfile.write(path, x, rate, **options)
        return x

    return write


@pytest.fixture(scope="session")
def table_of():
    """A function: the clip table of some files, all of them rain unless `mids` says otherwise."""
    def table(paths, mids=None, recording=None):
        ids = [p.stem for p in paths]
        labels = pd.Series(mids or [("/m/06mb1",)] * len(ids), dtype=object)
        return pd.DataFrame(dict(clip_id=ids, path=[str(p) for p in paths], start_seconds=np.nan,
                                 end_seconds=np.nan, mids=labels, split="train", fold=-1,
                                 recording=recording or ids))

    return table


@pytest.fixture(scope="session")
def rows_of():
    """A function: a clip table of (recording, mids) pairs, without files."""
    def table(recordings):
        labels = pd.Series([mids for _, mids in recordings], dtype=object)
        ids = [f"c{i}" for i in range(len(recordings))]
        return pd.DataFrame(dict(clip_id=ids, path="", start_seconds=np.nan, end_seconds=np.nan, mids=labels,
                                 split="train", fold=-1, recording=[r for r, _ in recordings]))

    return table


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder, with or without byte ranges; cuts tar files off after `most` bytes, `times` times."""
    daemon_threads = True

    def __init__(self, folder, most=1 << 30, times=0, ranges=True):
        self.folder, self.most, self.left, self.ranges = Path(folder), most, times, ranges
        self.asked = []  # (path, first byte) of each request
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.server.folder / self.path[1:]
        if not path.exists():
            return self.send_error(404)
        data = path.read_bytes()
        wanted = self.headers["Range"] if server.ranges else None
        first, last = (int(v) if v else len(data) - 1 for v in (wanted or "bytes=0-")[6:].split("-"))
        if first >= len(data):
            return self.send_error(416)
        server.asked.append((self.path, first))
        part = data[first:last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        breaks = path.suffix == ".tar" and server.left > 0
        server.left -= breaks
        try:
            self.wfile.write(part[:server.most] if breaks else part)
        except ConnectionError:  # the client has read enough
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """A function that starts a `Server`; all are stopped in the end."""
    servers = []

    def start(*args, **options):
        servers.append(Server(*args, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def no_waits(monkeypatch):
    """Requests are repeated without waiting."""
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
