"""What is refused of a run folder. The configuration: test_config.py; pairs of runs: test_comparison.py."""
import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from spa_lib.runs import find_runs, make_config, read_run, runs_table


def test_round_trip(tmp_path, make_run):
    run = read_run(make_run(tmp_path, seed=3, alpha=0.2, n=24))
    assert run.config == make_config("demo", seed=3, alpha=0.2)
    assert run.scores.dtype == np.float32 and run.targets.shape == run.scores.shape == (24, 8)
    assert len(run.recordings) == 24


def test_damage_is_refused_by_name(tmp_path, make_run):
    path = make_run(tmp_path)
    config = json.loads((path / "config.json").read_text())
    damages = [({"epochs": 3}, "is not the configuration"), ({"epoch": 3}, "Did you mean 'epochs'")]
    for damage, message in damages:
        (path / "config.json").write_text(json.dumps(config | damage))
        with pytest.raises(ValueError, match=message) as error:
            find_runs(tmp_path)
        assert path.name in str(error.value)
    (path / "config.json").write_text(json.dumps(config))
    with np.load(path / "scores.npz") as z:
        arrays = dict(z)
    np.savez(path / "scores.npz", **(arrays | {"mids": arrays["mids"][:-1]}))
    with pytest.raises(ValueError, match=path.name):
        read_run(path)


def test_unfinished_runs_are_not_results(tmp_path, make_run):
    (make_run(tmp_path) / "metrics.json").unlink()
    assert find_runs(tmp_path) == []


def opened(monkeypatch) -> list:
    """The folders whose arrays have been read, as that goes on."""
    seen, load = [], np.load
    monkeypatch.setattr(np, "load", lambda path: seen.append(path.parent.name) or load(path))
    return seen


def test_scores_are_read_when_they_are_asked_for(tmp_path, make_run, monkeypatch):
    """Each `scores.npz` was loaded, before the runs were filtered."""
    asked, other = make_run(tmp_path, seed=0), make_run(tmp_path, seed=1)
    seen = opened(monkeypatch)
    (other / "scores.npz").unlink()  # it is not asked for
    (run,) = find_runs(tmp_path, seed=0)
    runs_table([run])
    assert not seen
    assert run.scores.shape == (64, 8) and seen == [asked.name]
    assert run.scores is run.scores and len(seen) == 1


def test_a_run_that_is_copied_or_sent_keeps_its_scores(tmp_path, make_run):
    run = read_run(make_run(tmp_path))
    sent = pickle.loads(pickle.dumps(run))
    changed = replace(run, metrics={})
    for other in (sent, changed):
        assert (other.scores == run.scores).all() and (other.clip_ids == run.clip_ids).all()


def test_damaged_scores_are_refused_by_name(tmp_path, make_run):
    path = make_run(tmp_path)
    run, whole = read_run(path), (path / "scores.npz").read_bytes()
    with zipfile.ZipFile(path / "scores.npz") as z:
        where = z.getinfo("scores.npy").header_offset + 200
    (path / "scores.npz").write_bytes(whole[:where] + bytes(200) + whole[where + 200:])
    with pytest.raises(ValueError, match=f"{path.name}: scores.npz cannot be read"):
        run.scores.sum()
