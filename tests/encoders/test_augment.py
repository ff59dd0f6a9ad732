"""Augmentation: in training only, each switch by itself, the published values."""
import pytest
import torch

from spa_lib.encoders import encoder_names

NAMES = encoder_names("waveform")


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_acts_in_training_only(name, tiny, noise):
    plain, recipe = tiny(name), tiny(name, augment="recipe")
    wave = noise(2, plain.sample_rate, batch=2)
    with torch.no_grad():
        assert torch.equal(plain(wave), recipe(wave))
        recipe.train()
        torch.manual_seed(0)
        first = recipe(wave)
        torch.manual_seed(0)
        assert torch.equal(first, recipe(wave)) and first.isfinite().all() and first.shape == (2, 527)


def test_each_switch_changes_the_input(tiny, noise):
    wave = noise(2, 32000, batch=2)
    for switch in (
        dict(gain_low=-7, gain_high=6), dict(roll=50), dict(freq_mask=48), dict(time_mask=192),
        dict(jitter=True), dict(patchout_time=10), dict(patchout_freq=4),
    ):
        encoder = tiny("passt", augment=switch).train()
        torch.manual_seed(1)
        with torch.no_grad():
            assert not torch.equal(encoder(wave), encoder(wave)), switch


def test_patchout_leaves_the_published_number_of_tokens(tiny, noise):
    encoder = tiny("passt", stride=10, augment="recipe").train()
    x = encoder.log_mel(noise(10, 32000, batch=2))
    assert encoder.patches(x).shape[1] == 59 * 8
    encoder.eval()
    assert encoder.patches(x).shape[1] == 99 * 12


def test_masks_write_a_zero_before_the_normalisation(tiny, noise):
    for name, value in (("ast", 4.2677393 / (2 * 4.5689974)), ("psla", 4.6476 / 4.5699), ("passt", 0.9)):
        encoder = tiny(name, augment=dict(freq_mask=48)).train()
        torch.manual_seed(3)
        x = encoder.log_mel(noise(2, encoder.sample_rate, batch=4))
        masked = (x - value).abs().amax(2) < 1e-5
        assert masked.any() and (masked.sum(1) <= 48).all()


def test_stochastic_depth_and_dropout_only_in_training(tiny, noise):
    for name in ("psla", "htsat", "panns", "mn"):
        encoder = tiny(name)
        wave = noise(1, encoder.sample_rate, batch=2)
        with torch.no_grad():
            assert torch.equal(encoder(wave), encoder(wave))
