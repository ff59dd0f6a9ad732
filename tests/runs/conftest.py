"""Run folders with made-up scores."""
import json
from dataclasses import replace

import numpy as np
import pytest

from spa_lib.metrics import mean_average_precision, omap
from spa_lib.ontology import METHODS, Ontology
from spa_lib.runs import config_hash, make_config, run_name, variant_of, write_config, write_results

NAMES = ["Speech", "Laughter", "Giggle", "Dog", "Bark", "Music", "Guitar", "Vehicle"]


def write_run(folder, seed=0, alpha=0.0, n=64, scale="demo", **values):
    """A finished run with made-up scores over eight of AudioSet's classes; two clips a recording."""
    released = {"head": "official", "epochs": 0} if values.pop("head", "spa") == "official" else {}
    cfg = replace(make_config(scale, seed=seed, alpha=alpha, **values), **released)  # with no file too
    classes = Ontology.audioset().subset(NAMES)
    rng = np.random.default_rng((seed, *variant_of(cfg).encode(), *cfg.encoder.encode(), round(1000 * alpha)))
    y = np.eye(8)[np.arange(n) % 8]
    scores = y + 0.7 * rng.normal(size=y.shape) - alpha * (y @ classes.distances) / 5
    o = omap(y, scores, classes.distances, levels=classes.levels)
    metrics = dict(
        mAP=dict(value=float(mean_average_precision(y, scores))),
        OmAP=dict(value=o.value, per_level=o.per_level.tolist()),
        n_train=640, n_eval=n, n_classes=8,
        clips_hash=f"clips-{n}-{cfg.holdout}", config_hash=config_hash(cfg),
    )
    path = folder / run_name(cfg)
    write_config(path, cfg)
    write_results(path, metrics, [f"clip{i}" for i in range(n)], classes.mids, y, scores, np.arange(n) // 2)
    return path


@pytest.fixture
def make_run():
    """The function that writes a run folder and returns its path."""
    return write_run


@pytest.fixture
def folder(tmp_path):
    """Two encoders, three seeds, all descriptions but one."""
    for seed in range(3):
        for encoder in ("ast", "passt"):
            write_run(tmp_path / "runs", seed, encoder=encoder)
            for method in METHODS:
                if (encoder, method) != ("ast", "prompt"):
                    write_run(tmp_path / "runs", seed, 0.1, encoder=encoder, method=method)
    return tmp_path / "runs"


DAMAGE = {
    "configuration": "is not the configuration", "class order": "not in AudioSet's order",
    "classes": "their mids differ", "targets": "their targets differ", "clips": "their clip_ids differ",
    "no class": "is not a class of AudioSet",
}


@pytest.fixture
def damage(folder):
    """A function that damages one run and returns its name, and what the error must say."""

    def damage_one(kind):
        path = sorted(folder.glob("passt*concat*"))[0]
        if kind == "configuration":
            config = json.loads((path / "config.json").read_text())
            (path / "config.json").write_text(json.dumps(config | {"epochs": 3}))
            return path.name, DAMAGE[kind]
        with np.load(path / "scores.npz") as z:
            arrays = dict(z)
        if kind == "class order":
            arrays["mids"] = arrays["mids"][::-1]
        elif kind == "classes":
            arrays["mids"] = np.array(Ontology.audioset().mids[100:108])
        elif kind == "targets":
            arrays["targets"] = arrays["targets"][::-1]
        elif kind == "clips":
            arrays["clip_ids"] = arrays["clip_ids"][::-1]
        elif kind == "no class":
            arrays["mids"] = np.array([*arrays["mids"][:-1], "/m/none"])
        np.savez(path / "scores.npz", **arrays)
        return path.name, DAMAGE[kind]

    return damage_one
