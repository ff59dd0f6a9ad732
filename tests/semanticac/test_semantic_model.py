"""Maps, similarity modules and their sizes; audio sides that start alike."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from spa_lib.encoders import create_encoder, encoder_names
from spa_lib.semanticac.model import CBAM, CSCM, MapEncoder, count_parameters, make_similarity
from spa_lib.semanticac.train import load_sides, make_map_encoder, make_system


def test_golden_htsat_map(golden_encoder, tmp_path):
    """A checkpoint of HTS-AT gives 768 x 8 x 8, whose mean is the golden embedding."""
    golden = golden_encoder("htsat")
    encoder = MapEncoder(create_encoder("htsat", checkpoint=golden.save(tmp_path / "htsat.ckpt")))
    wave = torch.from_numpy(golden.waves())
    with torch.no_grad():
        M = encoder.embed(wave, 32000)
    assert M.shape[1:] == (768, 8, 8)
    wanted = golden.values["embedding"]
    assert np.abs(M.mean((2, 3)).numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()
    with torch.no_grad():
        assert CSCM(768).eval()(M).shape == (len(M), 1024)


@pytest.mark.parametrize("name", ["htsat", "mn", "psla"])
def test_mean_of_the_map_is_the_embedding(name):
    encoder = create_encoder(name, size="tiny", clip_seconds=1.0)
    wave = 0.1 * torch.randn(2, encoder.sample_rate, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        M = MapEncoder(encoder).embed(wave)
        assert torch.allclose(M.mean((2, 3)), encoder.embed(wave), atol=1e-5)


@pytest.mark.parametrize("name", encoder_names("waveform"))
def test_every_map_leads_through_every_module(name):
    encoder = MapEncoder(create_encoder(name, size="tiny", clip_seconds=1.0))
    M = encoder.embed(0.1 * torch.randn(2, encoder.sample_rate))
    assert M.ndim == 4 and M.shape[1] == encoder.embed_dim
    for module in ("plain", "flat", "lstm", "transf", "cscm"):
        A = make_similarity(module, tuple(M.shape[1:]), 12)(M)
        assert A.shape == (2, 12)
    A.sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())


def test_map_needs_the_encoders_rate():
    with pytest.raises(ValueError, match="32000"):
        MapEncoder(create_encoder("mn", size="tiny")).embed(torch.zeros(1, 32000), 44100)


@pytest.mark.parametrize(
    "name, size", [("plain", 787_456), ("flat", 50_332_672), ("lstm", 5_512_192), ("cscm", 1_084_434)],
)
def test_sizes_at_the_papers_dimensions(name, size):
    with torch.device("meta"):
        assert count_parameters(make_similarity(name, (768, 8, 8), 1024)) == size


def test_attention_scales_and_never_mixes():
    M = torch.randn(2, 16, 4, 4)
    scaled = CBAM(16)(M) / M
    assert (scaled > 0).all() and (scaled < 1).all()


def test_variants_with_one_seed_have_one_audio_side(small):
    """Baseline with CSCM and SemanticAC start from the same encoder and module."""
    configs = [small, replace(small, system="baseline")]
    encoders = [make_map_encoder(cfg) for cfg in configs]
    data = load_sides(small, encoders[0].sample_rate)
    models = [make_system(cfg, encoder, data) for cfg, encoder in zip(configs, encoders)]
    for part in ("encoder", "similarity"):
        a, b = (getattr(model, part).state_dict() for model in models)
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
