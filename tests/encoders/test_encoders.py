"""Encoders: the authors' values, published sizes, what all have in common, registering, precision."""
import math

import numpy as np
import pytest
import torch

from spa_lib.encoders import (
    CHECKPOINTS,
    Encoder,
    Frozen,
    OfficialHead,
    create_encoder,
    encoder_class,
    encoder_names,
    register_encoder,
)
from spa_lib.encoders.base import ENCODERS
from spa_lib.encoders.frontend import KaldiMel

NAMES = encoder_names("waveform")
TABLE_1 = ("psla", "panns", "ast", "passt", "htsat")


def on_meta(name, size="base"):
    cls = encoder_class(name)
    with torch.device("meta"):
        return cls(size=size, **cls.sizes[size])


def relative(found, wanted):
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


# --- the authors' values ------------------------------------------------------------------------------------
def check_golden(encoder, wave, values, prefix):
    with torch.no_grad():
        x = encoder.log_mel(torch.from_numpy(wave), encoder.sample_rate)
        hidden = encoder.hidden(x)
        X_hat, logits = encoder.pool(hidden), encoder.logits(hidden)
    frames = values[prefix + "logmel_frames"]
    assert tuple(x.mT.shape) == tuple(values[prefix + "logmel_shape"])
    assert np.abs(x.mT[:, frames].numpy() - values[prefix + "logmel"]).max() < 1e-3
    assert np.abs(x.mean(2).numpy() - values[prefix + "logmel_mean_over_frames"]).max() < 1e-3
    assert np.abs(x.mean(1).numpy() - values[prefix + "logmel_mean_over_bins"]).max() < 1e-3
    assert relative(X_hat, values[prefix + "embedding"]) < 1e-4
    if prefix + "logits" in values:
        assert relative(logits, values[prefix + "logits"]) < 1e-4
    assert np.abs(logits.sigmoid().numpy() - values[prefix + "probs"]).max() < 2e-5
    return hidden


@pytest.mark.parametrize("name", TABLE_1)
def test_golden_short_clip(golden_encoder, name, tmp_path):
    golden = golden_encoder(name)
    wave = golden.short_wave()
    assert np.array_equal(wave[:64], golden.values["short_waveform_head"][0])
    encoder = create_encoder(name, checkpoint=golden.save(tmp_path / "x.pth"))
    assert encoder.sample_rate == golden.spec["sample_rate"] and not encoder.training
    check_golden(encoder, wave[None], golden.values, "short_")


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_1)
def test_golden_ten_seconds(golden_encoder, name, tmp_path):
    golden = golden_encoder(name)
    encoder = create_encoder(name, checkpoint=golden.save(tmp_path / "x.pth"))
    hidden = check_golden(encoder, golden.waves(), golden.values, "")
    if name == "psla":
        assert relative(hidden.mT[:, ::8], golden.values["frame_embedding"]) < 1e-4


@pytest.mark.slow
def test_golden_psla_with_the_padding_of_071(golden_encoder, tmp_path):
    golden = golden_encoder("psla")
    wave = torch.from_numpy(golden.waves())
    encoder = create_encoder("psla", checkpoint=golden.save(tmp_path / "x.pth"), padding="0.7.1")
    with torch.no_grad():
        assert relative(encoder.embed(wave), golden.values["embedding_pad071"]) < 1e-4
        assert np.abs(encoder(wave).sigmoid().numpy() - golden.values["probs_pad071"]).max() < 2e-5


@pytest.mark.parametrize("name", TABLE_1)
def test_keys_are_the_official_ones(golden_encoder, name):
    spec = golden_encoder(name).spec
    prefix = spec["key_prefix"]
    official = {row["key"].removeprefix(prefix): tuple(row["shape"]) for row in spec["keys"]}
    ours = {key: tuple(tensor.shape) for key, tensor in on_meta(name).state_dict().items()}
    assert ours.items() <= official.items()
    unused = {key.removeprefix(prefix) for key in spec["unused_keys"]}
    fixed = {row["key"].removeprefix(prefix) for row in spec["keys"] if row["fixed"]}
    assert official.keys() - ours.keys() <= unused | fixed


def mn04_scores(shared, encoder, index):
    """Largest difference to the stored scores of EfficientAT's own code, resampled as they were."""
    soundfile = pytest.importorskip("soundfile")
    from scipy.signal import resample_poly

    golden = np.load(shared / "golden" / "mn04_scores_esc.npz")
    clips = shared / "data" / "ESC-50-part" / "audio"
    worst = 0.0
    for i in range(len(golden["filename"]))[index]:
        x, rate = soundfile.read(clips / golden["filename"][i], dtype="float32")
        g = math.gcd(rate, 32000)
        x = resample_poly(x, 32000 // g, rate // g).astype(np.float32)
        x = np.pad(x, (0, max(0, 32000 - len(x))))
        with torch.no_grad():
            scores = encoder(torch.from_numpy(x)[None], 32000).sigmoid()[0].numpy()
        worst = max(worst, float(np.abs(scores - golden["scores"][i].astype(np.float32)).max()))
    return worst


@pytest.fixture(scope="module")
def mn04(shared):
    encoder = create_encoder("mn", checkpoint=shared / "models" / "mn04_as_mAP_432.pt")
    assert encoder.width == 0.4 and encoder.embed_dim == 384
    assert encoder.checkpoint["sha256"] == CHECKPOINTS["mn04_as"].sha256
    return encoder


def test_mn04_gives_its_authors_scores(shared, mn04):
    assert mn04_scores(shared, mn04, slice(0, None, 60)) < 3e-4


@pytest.mark.slow
def test_mn04_gives_its_authors_scores_on_every_clip(shared, mn04):
    assert mn04_scores(shared, mn04, slice(None)) < 3e-4


def test_mn04_on_a_sine(mn04):
    n = torch.arange(32000, dtype=torch.float64)
    wave = (0.5 * torch.sin(2 * torch.pi * 1000 * n / 32000)).float()[None]
    with torch.no_grad():
        logits, X_hat = mn04(wave, 32000), mn04.embed(wave)
        silence = mn04(torch.zeros(1, 32000)).sigmoid()[0]
    scores = logits.sigmoid()[0]
    assert scores.topk(3).indices.tolist() == [481, 501, 393]
    assert torch.allclose(scores[[481, 501, 393]], torch.tensor([0.5291, 0.2293, 0.0957]), atol=3e-4)
    assert abs(logits.mean() + 8.27312) < 1e-3 and abs(X_hat.mean() + 0.062650) < 1e-4
    assert torch.allclose(X_hat[0, :4], torch.tensor([-0.232028, 0.012358, -0.051117, 0.216088]), atol=3e-4)
    assert silence.topk(3).indices.tolist() == [504, 137, 500]


# --- sizes --------------------------------------------------------------------------------------------------
STFT = 2 * 513 * 1024 + 513 * 64


@pytest.mark.parametrize("name, parameters, U", [
    ("psla", 13_640_766, 1408),
    ("panns", 81_837_071 - STFT, 2048),
    ("ast", 88_132_063 - 2 * (1000 * 768 + 1000), 768),
    ("passt", 86_153_758 - (527 * 768 + 527), 768),
    ("htsat", 31_325_143 - STFT - (527 * 527 + 527), 768),
    ("mn", 4_876_831, 960),
])
def test_base_has_the_published_number_of_parameters(name, parameters, U):
    encoder = on_meta(name)
    assert sum(p.numel() for p in encoder.parameters()) == parameters and encoder.embed_dim == U
    assert encoder.n_classes == 527 and encoder.clip_seconds == 10 and encoder.name == name


@pytest.mark.parametrize("size, keys, parameters", [
    ("mn01", 294, None), ("mn04", 312, 983_599), ("mn05", 312, 1_431_239), ("mn40", 312, 68_427_303),
])
def test_widths_of_mn(size, keys, parameters):
    encoder = on_meta("mn", size)
    assert len(encoder.state_dict()) == keys
    assert parameters in (None, sum(p.numel() for p in encoder.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_tiny_and_the_same_code(name, tiny):
    encoder = tiny(name)
    assert sum(p.numel() for p in encoder.parameters()) < 1_500_000
    assert type(encoder) is encoder_class(name) and isinstance(encoder, Encoder) and encoder.size == "tiny"
    assert not any("window" in k or "bank" in k for k in encoder.state_dict())


# --- behaviour that all share -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_shapes_from_half_a_second_to_thirty(name, tiny, noise):
    encoder = tiny(name)
    for seconds in (0.5, 5, 10, 30):
        wave = noise(seconds, encoder.sample_rate)
        with torch.no_grad():
            X_hat, logits = encoder.embed(wave), encoder(wave, sample_rate=encoder.sample_rate)
        assert X_hat.shape == (1, encoder.embed_dim) and logits.shape == (1, 527)
        assert X_hat.isfinite().all() and logits.isfinite().all()
        assert X_hat.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_the_same_alone_and_in_a_batch(name, tiny, noise):
    encoder = tiny(name)
    wave = noise(2, encoder.sample_rate, batch=3)
    with torch.no_grad():
        together, alone = encoder.embed(wave), torch.cat([encoder.embed(w[None]) for w in wave])
        assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))
        assert torch.allclose(encoder(wave)[1:2], encoder(wave[1:2]), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_shortest_clip_is_stated(name, tiny, noise):
    encoder = tiny(name)
    least = encoder.min_samples
    assert least <= 0.5 * encoder.sample_rate
    assert encoder(noise(1, encoder.sample_rate)[:, :least]).isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} samples"):
        encoder(torch.zeros(1, least - 1))


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_full_scale_are_finite(name, tiny):
    encoder = tiny(name)
    for wave in (torch.zeros(1, encoder.sample_rate), torch.ones(1, encoder.sample_rate)):
        assert encoder(wave).isfinite().all() and encoder.embed(wave).isfinite().all()


def test_what_is_refused(tiny, noise):
    encoder = tiny("mn")
    wave = noise(1, 32000)
    for wrong, rate, message in (
        (wave, 16000, "32000 Hz, the wave has 16000"),
        (wave[0], None, r"wave\[None\]"),
        (wave[None], None, "mix channels"),
        (wave.int(), None, "32768"),
        ([wave[0], wave[0, :900]], None, "different length"),
        (wave.numpy(), None, "tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.embed(wrong, rate)
    with pytest.raises(ValueError, match="passt"):
        create_encoder("past")
    with pytest.raises(ValueError, match="tiny"):
        create_encoder("mn", size="tinny")
    with pytest.raises(ValueError, match="clip_seconds"):
        create_encoder("ast", size="tiny", clip_second=5)
    with pytest.raises(ValueError, match="paper"):
        create_encoder("ast", size="tiny", front_end="papr")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name, tiny, noise):
    encoder = tiny(name, clip_seconds=2).train()
    wave = noise(2, encoder.sample_rate, batch=2)
    (encoder(wave).square().mean() + encoder.embed(wave).square().mean()).backward()
    missing = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


# --- names and feature maps ---------------------------------------------------------------------------------
@pytest.fixture
def registry():
    """The register of encoders, put back after the test."""
    before = dict(ENCODERS)
    yield ENCODERS
    ENCODERS.clear()
    ENCODERS.update(before)


class Loudness(Encoder):
    """From outside the package: X_hat is the mean log-mel."""
    sizes = {"base": dict(scale=1.0), "tiny": dict(scale=2.0)}
    head_prefix = "head."

    def __init__(self, size="base", scale=1.0, clip_seconds=10.0, augment=None):
        super().__init__(size, KaldiMel(0.0, scale), clip_seconds, 128, augment)
        self.head = torch.nn.Linear(128, self.n_classes)

    def hidden(self, x):
        return x.mean(2)

    def logits(self, hidden):
        return self.head(hidden)


def test_an_encoder_from_outside_is_created_by_its_name(registry, noise, tmp_path):
    register_encoder("loudness", key="head.weight")(Loudness)
    assert encoder_names("waveform") == (*NAMES, "loudness") and encoder_class("loudness") is Loudness
    encoder = create_encoder("loudness", size="tiny", clip_seconds=2)
    assert encoder.name == "loudness" and encoder.front_end.scale == 2 and encoder.sample_rate == 16000
    wave = noise(1, 16000, batch=2)
    assert encoder(wave).shape == (2, 527) and encoder.embed(wave).shape == (2, 128)
    torch.save(encoder.state_dict(), tmp_path / "x.pth")
    again = create_encoder("loudness", size="tiny", checkpoint=tmp_path / "x.pth")
    assert torch.equal(again(wave), encoder(wave))
    with pytest.raises(ValueError, match="loudness's keys"):
        create_encoder("ast", checkpoint=tmp_path / "x.pth")
    with pytest.raises(ValueError, match="Did you mean 'loudness'"):
        create_encoder("loudnes")
    with pytest.raises(NotImplementedError, match="Loudness defines no `feature_map`"):
        encoder.feature_map(wave)


def test_a_name_is_taken_once(registry):
    with pytest.raises(ValueError, match="'ast' is taken by spa_lib.encoders.ast.AST"):
        register_encoder("ast", key="head.weight")(Loudness)
    assert encoder_class("ast").__name__ == "AST" and "loudness" not in registry
    again = type("Loudness", (Loudness,), {"__qualname__": "Loudness"}) # the same cell, run twice
    register_encoder("loudness", key="head.weight")(Loudness)
    register_encoder("loudness", key="head.weight")(again)
    assert encoder_class("loudness") is again


def test_the_six_are_registered_in_the_papers_order():
    assert NAMES == ("psla", "panns", "ast", "passt", "htsat", "mn")
    keys = [encoder_class(name).checkpoint_key for name in NAMES]
    for name, key in zip(NAMES, keys):
        own = on_meta(name).state_dict()
        assert key in own and not any(other in own for other in keys if other != key)
        assert encoder_class(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_map_has_U_channels(name, tiny, noise):
    encoder = tiny(name, clip_seconds=2)
    wave = noise(2, encoder.sample_rate, batch=2)
    with torch.no_grad():
        M = encoder.feature_map(wave, encoder.sample_rate)
    assert M.ndim == 4 and M.shape[:2] == (2, encoder.embed_dim) and M.isfinite().all()
    with pytest.raises(ValueError, match="the wave has 44100"):
        encoder.feature_map(wave, 44100)


def test_no_map_where_patchout_left_patches_out(tiny, noise):
    encoder = tiny("passt", stride=10, augment=dict(patchout_freq=5, patchout_time=1)).train()
    with pytest.raises(ValueError, match="switch patchout off"):
        encoder.feature_map(noise(2, 32000))


# --- what stands for an encoder -----------------------------------------------------------------------------
def test_frozen_hands_on_what_it_gets(tiny):
    encoder = tiny("ast", clip_seconds=2)
    frozen, X_hat = Frozen(encoder), torch.randn(3, encoder.embed_dim)
    assert frozen.embed(X_hat, 16000) is X_hat and not list(frozen.parameters())
    assert (frozen.embed_dim, frozen.sample_rate, frozen.checkpoint) == (encoder.embed_dim, 16000, None)


def test_the_official_head_picks_its_classes(tiny, noise):
    encoder = tiny("mn")
    wave = noise(1, 32000, batch=2)
    with torch.no_grad():
        logits, E_a = OfficialHead(encoder, [4, 0, 526])(wave, 32000)
        assert torch.equal(logits, encoder(wave)[:, [4, 0, 526]]) and E_a is None
    assert "index" in OfficialHead(encoder, [4]).state_dict()


# --- precision and compilation ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_front_end_is_float32_under_autocast_and_in_bfloat16(name, tiny, noise):
    encoder = tiny(name)
    wave = noise(2, encoder.sample_rate, batch=2)
    with torch.no_grad():
        plain, x = encoder(wave), encoder.front_end(wave)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder.front_end(wave), x)
            mixed, X_hat = encoder(wave), encoder.embed(wave)
        assert (mixed - plain).abs().max() < 0.1 * plain.abs().max() and X_hat.isfinite().all()
        encoder.bfloat16()
        assert torch.equal(encoder.front_end(wave), x) and encoder(wave).isfinite().all()
        assert encoder.embed(wave.bfloat16()).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torch_compile(name, tiny, noise):
    encoder = tiny(name, clip_seconds=2)
    wave = noise(2, encoder.sample_rate)
    with torch.no_grad():
        assert torch.allclose(torch.compile(encoder)(wave), encoder(wave), atol=1e-4)
