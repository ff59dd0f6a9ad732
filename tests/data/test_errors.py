"""A refusal names five clips; the whole list is a csv, which it names too."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from spa_lib.data import check_clips, examine_sides, read_clips, read_segments, without_leaks

N = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))


def listed(message, n=N):
    """The table that a message names."""
    found = re.search(rf"^  \.\.\. and {n - 5} more; all {n} are listed in (.+\.csv)$", message, re.MULTILINE)
    assert found, message
    return pd.read_csv(found[1])


@pytest.fixture
def silent(tmp_path, table_of):
    """Clips that hold nothing to hear."""
    paths = [tmp_path / f"{i}.wav" for i in range(N)]
    for path in paths:
        soundfile.write(path, np.zeros(16000), 16000)
    return table_of(paths)


@pytest.fixture
def cut_off(silent):
    """Clips that end before their header says."""
    for path in map(Path, silent.path):
        path.write_bytes(path.read_bytes()[:999])
    return silent


def test_clips_without_a_file(tmp_path, ontology):
    rows = "".join(f"{i}.wav,Rain\n" for i in range(N))
    (tmp_path / "clips.csv").write_text(f"path,labels\n{rows}")
    with pytest.raises(ValueError) as refused:
        read_clips("csv", tmp_path / "clips.csv", ontology)
    found = listed(str(refused.value))
    assert list(found.columns) == ["clip_id", "problem", "detail"] and set(found.problem) == {"missing"}
    assert len(found) == N and found.clip_id.is_unique


def test_clips_that_do_not_decode(cut_off):
    for call in (lambda: check_clips(cut_off, progress=False), lambda: examine_sides([cut_off])):
        with pytest.raises(ValueError) as refused:
            call()
        found = listed(str(refused.value))
        assert found.clip_id.astype(str).tolist() == cut_off.clip_id.tolist()
        assert found.detail.str.contains("wav").all()  # each names its file


def test_clips_with_nothing_to_hear(silent, caplog):
    with pytest.raises(ValueError) as refused:
        examine_sides([silent], on_doubt="refuse", progress=False)
    assert len(listed(str(refused.value))) == N
    examine_sides([silent], progress=False)
    assert set(listed("\n".join(record.getMessage() for record in caplog.records)).problem) == {"doubtful"}


def test_clips_on_both_sides(silent):
    with pytest.raises(ValueError) as refused:
        without_leaks(silent, silent.assign(clip_id=[f"e{i}" for i in range(N)]), "refuse")
    found = listed(str(refused.value))
    assert found.columns.tolist() == ["row", "clip_id", "other", "shared"] and len(found) == N


def test_rows_that_lost_their_ids(tmp_path):
    (tmp_path / "a_segments.csv").write_text(
        "".join(f'#NAME?, {i}, {i + 10}, "/m/06mb1"\n' for i in range(N))
    )
    with pytest.raises(ValueError) as refused:
        read_segments(tmp_path / "a_segments.csv")
    assert listed(str(refused.value)).row[N - 1].startswith(f"line {N}: #NAME?")


def test_the_same_list_is_one_file_and_a_short_one_is_none(cut_off, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError):
            check_clips(cut_off, progress=False)
    assert len(list((tmp_path / "cache" / "problems").iterdir())) == 1
    with pytest.raises(ValueError) as refused:
        check_clips(cut_off[:5], progress=False)
    assert "more" not in str(refused.value) and str(refused.value).count("truncated (") == 5


def test_where_no_list_can_be_written(cut_off, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"and 7 more; the list of all 12 could not be written: .*file"):
        check_clips(cut_off, progress=False)
