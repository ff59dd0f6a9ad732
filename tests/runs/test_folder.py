"""What is refused of a run folder. The configuration: test_config.py; pairs of runs: test_comparison.py."""
import json

import numpy as np
import pytest

from spa_lib.runs import find_runs, make_config, read_run


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
