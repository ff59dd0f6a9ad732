"""Statistics of embeddings: known spaces, sums that go on, what is saved."""
import numpy as np
import torch

from spa_lib.losses import spa_loss
from spa_lib.metrics import (
    AudioStatistics,
    effective_rank,
    mean_cosine,
    ontology_order,
    text_statistics,
    uniformity,
)
from spa_lib.ontology import Ontology

DISTANCES = Ontology.audioset().distances[:6, :6]


def test_statistics_of_known_spaces():
    eye = torch.eye(6)
    for statistic, value in ((mean_cosine, 0), (effective_rank, 6), (uniformity, -4)):
        assert np.isclose(statistic(eye), value)
    one = torch.ones(6, 3)
    for statistic, value in ((mean_cosine, 1), (effective_rank, 1), (uniformity, 0)):
        assert np.isclose(statistic(one), value)
    assert np.isnan(ontology_order(one, DISTANCES))
    names = {"text_cosine", "text_rank", "text_uniformity", "text_order"} # as they stand in the log of a run
    assert set(text_statistics(eye, DISTANCES)) == names


def test_audio_statistics_survive_saving_and_do_not_care_about_batches():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 16, generator=rng), (torch.rand(20, 40, generator=rng) < 0.1).float()
    E_t = torch.randn(40, 16, generator=torch.Generator().manual_seed(3))
    whole, parts = AudioStatistics(16), AudioStatistics(16)
    whole.add(x, E_t, y)
    parts.add(x[:8], E_t, y[:8])
    again = AudioStatistics(16)
    again.load_state_dict(parts.state_dict())
    again.add(x[8:], E_t, y[8:])
    a, b = whole.read(), again.read()
    assert all(np.isclose(a[k], b[k], rtol=1e-5) for k in ("audio_cosine", "audio_rank", "alignment"))
    has = y.sum(1) > 0
    assert np.isclose(a["alignment"], 2 * float(spa_loss(x[has], E_t, y[has])), rtol=1e-5)
    again.reset()
    assert np.isnan(again.read()["audio_cosine"])


def test_the_saved_state_has_the_names_that_run_folders_have():
    names = {"n", "total", "moment", "pairs", "potential", "clips", "far"}
    assert set(AudioStatistics(3).state_dict()) == names
