"""A corpus of one class can be trained on and scored: what has no pair of classes is nan."""
import math

import numpy as np
import pytest
import torch

from spa_lib.metrics import (
    effective_rank,
    ontology_order,
    text_statistics,
    uniformity,
)
from spa_lib.runs import make_config
from spa_lib.train import train

soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def music(tmp_path):
    """A csv of clips that are all music, in two sides."""
    rng = np.random.default_rng(0)
    lines = ["path,labels,split,recording"]
    for i in range(16):
        soundfile.write(tmp_path / f"{i}.wav", 0.1*rng.standard_normal(16000), 16000)
        lines.append(f"{i}.wav,Music,{'train' if i < 8 else 'eval'},{i}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    return tmp_path / "clips.csv"


def test_statistics_of_one_class_are_nan():
    """`mean_cosine` raised, before the first step of a run."""
    E_t = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    found = text_statistics(E_t, np.zeros((1, 1)))
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "text_cosine", "text_uniformity", "text_order"}
    assert found["text_rank"] == pytest.approx(1)
    assert math.isnan(uniformity(E_t)) and effective_rank(E_t) == pytest.approx(1)
    assert math.isnan(ontology_order(E_t, np.zeros((1, 1))))


@pytest.mark.parametrize("values", [{}, {"alpha": 0.0}])
def test_a_run_on_one_class(music, tmp_path, values):
    cfg = make_config("smoke", source="csv", root=str(music), n_train=0, n_eval=0, clip_seconds=1.0,
                      batch_size=4, **values)
    run = train(cfg, tmp_path / "runs", progress=False)
    assert run.scores.shape == (8, 1) and np.isfinite(run.log.loss).all()
    assert run.metrics["mAP"]["value"] == 1
