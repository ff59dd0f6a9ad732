"""What is refused of a run folder. The configuration: runs/test_config.py; pairs: runs/test_comparison.py."""
import json

import numpy as np
import pytest

from spa_lib.metrics import omap
from spa_lib.runs import config_hash, find_runs, make_config, read_run, run_name, write_config, write_results


def make_run(folder, seed=0, alpha=0.0, n=20, classes=5, **changes):
    """A finished run with random scores."""
    cfg = make_config("demo", seed=seed, alpha=alpha, **changes)
    rng = np.random.default_rng((seed, int(alpha * 100)))
    y = np.eye(classes)[rng.integers(0, classes, n)]
    scores = rng.random((n, classes))
    line = abs(np.arange(classes)[:, None] - np.arange(classes))
    metrics = dict(mAP=dict(value=float(rng.random())), OmAP=dict(value=omap(y, scores, line).value), config_hash=config_hash(cfg), clips_hash="one")
    path = folder / run_name(cfg)
    write_config(path, cfg)
    write_results(path, metrics, [f"c{i}" for i in range(n)], [f"/m/{i}" for i in range(classes)], y, scores, range(n))
    return path


def test_round_trip(tmp_path):
    run = read_run(make_run(tmp_path, seed=3, alpha=0.2))
    assert run.config == make_config("demo", seed=3, alpha=0.2)
    assert run.scores.dtype == np.float32 and run.targets.shape == run.scores.shape == (20, 5) and len(run.recordings) == 20


def test_damage_is_refused_by_name(tmp_path):
    path = make_run(tmp_path)
    config = json.loads((path / "config.json").read_text())
    for damage, message in ((config | {"epochs": 3}, "is not the configuration"), (config | {"epoch": 3}, "Did you mean 'epochs'")):
        (path / "config.json").write_text(json.dumps(damage))
        with pytest.raises(ValueError, match=message) as error:
            find_runs(tmp_path)
        assert path.name in str(error.value)
    (path / "config.json").write_text(json.dumps(config))
    with np.load(path / "scores.npz") as z:
        arrays = dict(z)
    np.savez(path / "scores.npz", **(arrays | {"mids": arrays["mids"][:-1]}))
    with pytest.raises(ValueError, match=path.name):
        read_run(path)


def test_unfinished_runs_are_not_results(tmp_path):
    (make_run(tmp_path) / "metrics.json").unlink()
    assert find_runs(tmp_path) == []
