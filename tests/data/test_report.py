"""The report of what decodes: made once, clip by clip, and used by every run."""
import errno
import os
import sqlite3
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import soundfile

import spa_lib.data.report as report
from spa_lib.data import ClipError, Clips, check_clips, decode_report, pack, read_clips, report_problems


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, as they come."""
    paths, decode = [], report.examine_clip

    def count(path, start, end):
        paths.append(os.path.basename(path))
        return decode(path, start, end)

    monkeypatch.setattr(report, "examine_clip", count)
    return paths


@pytest.fixture
def corpus(tmp_path, noise, table_of):
    """Six clips: the second is cut off, the fourth is no sound, the last is short."""
    paths = [tmp_path / name for name in ("0.wav", "1.ogg", "2.flac", "3.mp3", "4.wav", "5.wav")]
    for i, path in enumerate(paths):
        noise(path, 0.1 if i == 5 else 1.0, seed=i)
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    paths[3].write_bytes(b"this is no sound")
    return table_of(paths)


def test_it_says_what_is_wrong(corpus):
    found = decode_report(corpus, progress=False)
    assert [f.problem for f in found] == ["", "truncated", "", "undecodable", "", ""]
    assert [f.seconds for f in found] == [1, 0, 1, 0, 1, 0.1]
    problems = report_problems(corpus, found, min_seconds=0.5)
    assert [(p.row, p.problem) for p in problems] == [(1, "truncated"), (3, "undecodable"), (5, "too short")]
    assert all(path in p.detail for p, path in zip(problems, corpus.path[[1, 3]])), "the file is named"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_clip_is_decoded_once(corpus, decoded, workers):
    first = decode_report(corpus, workers, progress=False)
    assert sorted(decoded) == sorted(os.path.basename(p) for p in corpus.path)
    assert decode_report(corpus, workers, progress=False) == first and len(decoded) == 6
    half = corpus.iloc[[4, 1]].reset_index(drop=True)
    assert decode_report(half, progress=False) == [first[4], first[1]] and len(decoded) == 6
    assert decode_report(corpus.assign(start_seconds=0.5), progress=False)[0].seconds == 0.5
    assert len(decoded) == 12, "other segments are other clips"


def test_a_file_that_changes_is_decoded_again(corpus, decoded):
    decode_report(corpus, progress=False)
    decoded.clear()
    path = corpus.path[3]
    soundfile.write(path, np.full(8000, 0.1), 16000, format="WAV")
    doubt = "constant: every sample is 0.09998"
    assert decode_report(corpus, progress=False)[3] == (0.5, "", "", doubt) and decoded == ["3.mp3"]
    decoded.clear()
    os.unlink(path)
    for _ in range(2):
        assert decode_report(corpus, progress=False)[3].problem == "missing"


def test_it_goes_on_where_it_stopped(corpus, decoded, monkeypatch):
    monkeypatch.setattr(report, "_PART", 2)
    decode = report.examine_clip

    def stop(path, start, end):
        if len(decoded) == 4:
            raise KeyboardInterrupt
        return decode(path, start, end)

    monkeypatch.setattr(report, "examine_clip", stop)
    with pytest.raises(KeyboardInterrupt):
        decode_report(corpus, progress=False)
    monkeypatch.setattr(report, "examine_clip", decode)
    decoded.clear()
    assert [f.problem for f in decode_report(corpus, progress=False)].count("") == 4
    assert len(decoded) == 2


def test_without_a_place_to_keep_it(corpus, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "file"))
    assert decode_report(corpus, progress=False)[1].problem == "truncated"
    assert "cannot be kept" in caplog.text
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    (tmp_path / "decoded.sqlite").write_bytes(b"no database" * 100)
    assert decode_report(corpus, progress=False)[1].problem == "truncated"


def test_an_error_of_the_mount_is_no_finding(corpus, monkeypatch):
    """The clip was kept as truncated, and was left out of all runs after the mount was there again."""
    cut_off = corpus.path[4] # a whole clip

    def reading(path, *mode):
        raise OSError(errno.ESTALE, "Stale file handle") if path == cut_off else AssertionError(path)

    def examine(path, start, end):
        if path == cut_off:
            raise ClipError.of(path, "truncated")
        return 1.0, ""

    with monkeypatch.context() as cut:
        cut.setattr(report, "open", reading, raising=False)
        cut.setattr(report, "examine_clip", examine)
        with pytest.raises(OSError, match="4.wav cannot be read, .*no fault of the clip: Stale") as error:
            decode_report(corpus, progress=False)
        assert error.value.errno == errno.ESTALE
    assert decode_report(corpus, progress=False)[4].problem == ""


def test_check_clips_decodes_now_and_keeps_what_it_finds(corpus, decoded):
    decode_report(corpus, progress=False)
    kept = check_clips(corpus, on_problem="leave_out", progress=False)
    assert len(kept) == 4 and len(decoded) == 12
    check_clips(corpus.iloc[[0]], progress=False)
    decode_report(corpus, progress=False)
    assert len(decoded) == 13


@pytest.mark.parametrize("cache", [True, False])
def test_clips_leave_out_what_does_not_decode(corpus, ontology, decoded, cache):
    options = dict(sample_rate=16000, clip_seconds=0.5, crop="start", cache=cache)
    for _ in range(2):
        clips = Clips(corpus, ontology, on_problem="leave_out", min_seconds=0.5, **options)
        assert clips.clip_ids == ["0", "2", "4"] and len(clips.targets) == 3
        assert [p["clip_id"] for p in clips.table.attrs["problems"]] == ["1", "3", "5"]
        assert all(len(clips[i][0]) == 8000 for i in range(3))
    assert len(decoded) == 6, "one report for both"
    with pytest.raises(ClipError, match=f"clip '1': truncated .*{corpus.path[1]}"):
        Clips(corpus, ontology, **options)[1]


def test_shards(tmp_path, corpus, ontology, decoded):
    pack(corpus, tmp_path / "shards", progress=False)
    table = read_clips("shards", tmp_path / "shards", ontology)
    decode_report(table, progress=False)
    assert len(decoded) == 4
    decode_report(table, progress=False)
    assert len(decoded) == 4
    shard = next((tmp_path / "shards").glob("*.tar"))
    with tarfile.open(shard) as tar:
        at = tar.getmembers()[0].offset_data
    content = bytearray(shard.read_bytes())
    content[at + 100] ^= 1
    shard.write_bytes(content)
    found = decode_report(table, progress=False)
    assert sorted(f.problem for f in found) == ["", "", "", "damaged"] and len(decoded) == 8


WRITER = """
import sys, pandas as pd
from spa_lib.data import decode_report
table = pd.read_pickle(sys.argv[1])
print([f.problem for f in decode_report(table, progress=False)].count(""))
"""


def test_several_at_a_time_write_to_one_report(corpus, tmp_path):
    corpus.to_pickle(tmp_path / "table")
    command = [sys.executable, "-c", WRITER, tmp_path / "table"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["4\n", "4\n"]
    with sqlite3.connect(report.cache_dir("decoded.sqlite")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM examined").fetchone() == (6,)
