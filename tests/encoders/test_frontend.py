"""Front ends against torchaudio, librosa and transformers, known values of a sine, the paper's front end."""
import numpy as np
import pytest
import torch

from spa_lib.encoders import encoder_names
from spa_lib.encoders.frontend import (
    DecibelMel,
    KaldiMel,
    PasstMel,
    decibel_front_end,
    is_paper,
    kaldi_mel_bank,
    slaney_mel_bank,
    true_float32,
)


def test_kaldi_front_end_against_torchaudio(noise):
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    wave = noise(2, 16000) + 0.3 * torch.sin(torch.arange(32000) / 5)
    theirs = kaldi.fbank(
        wave - wave.mean(), htk_compat=True, sample_frequency=16000, use_energy=False, window_type="hanning",
        num_mel_bins=128, dither=0.0, frame_shift=10)
    ours = KaldiMel(mean=0.0, scale=1.0)(wave)[0].mT
    assert ours.shape == theirs.shape == (198, 128) and (ours - theirs).abs().max() < 1e-3


def test_mel_banks_against_torchaudio_and_librosa():
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    librosa = pytest.importorskip("librosa")
    theirs, _ = kaldi.get_mel_banks(128, 1024, 32000.0, 0.0, 15000.0, 100.0, -500.0, 1.0)
    assert (kaldi_mel_bank(128, 1024, 32000, 0, 15000)[:, :512] - theirs).abs().max() < 5e-5
    for rate, fft, low, high in ((32000, 1024, 50, 14000), (16000, 512, 50, 8000)):
        theirs = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=64, fmin=low, fmax=high)
        assert np.abs(slaney_mel_bank(64, fft, rate, low, high).numpy() - theirs).max() < 1e-8


def test_decibel_front_end_against_torchaudio(noise):
    transforms = pytest.importorskip("torchaudio.transforms")
    wave = noise(1, 32000)
    mel = transforms.MelSpectrogram(
        32000, n_fft=1024, hop_length=320, n_mels=64, f_min=50, f_max=14000,
        norm="slaney", mel_scale="slaney", pad_mode="reflect")
    theirs = 10 * mel(wave).clamp(min=1e-10).log10()
    assert (DecibelMel()(wave) - theirs).abs().max() < 1e-3


def test_passt_front_end_on_a_sine():
    n = torch.arange(32000, dtype=torch.float64)
    x = PasstMel()((0.5 * torch.sin(2 * torch.pi * 1000 * n / 32000)).float()[None])[0]
    assert x.shape == (128, 100) and x[:, 50].argmax() == 36
    assert abs(x.mean() + 1.166507) < 1e-4 and abs(x.max() - 2.090460) < 1e-3
    bands = [0, 32, 64, 127]
    inside = torch.tensor([-1.402562, -0.227309, -1.402283, -1.402585])
    edge = torch.tensor([-0.591063, 0.400679, -0.767604, -1.343107])
    assert torch.allclose(x[bands, 50], inside, atol=3e-4) and torch.allclose(x[bands, 0], edge, atol=3e-4)
    assert PasstMel()(torch.zeros(1, 320000)).shape == (1, 128, 1000)


def test_jitter_of_the_mel_bank_in_training_only(noise):
    mel, wave = PasstMel(jitter=True).eval(), noise(1, 32000)
    assert torch.equal(mel(wave), PasstMel()(wave))
    mel.train()
    torch.manual_seed(0)
    assert not torch.equal(mel(wave), mel(wave))


def test_the_papers_front_end_read_literally(tiny, noise):
    for name in encoder_names("waveform"):
        encoder = tiny(name, front_end="paper", clip_seconds=2)
        assert encoder.sample_rate == 32000
        wave = noise(2, 32000)
        x = encoder.log_mel(wave, 32000)
        assert x.shape[1] == 128 and torch.allclose(x[:, :, :100], PasstMel()(wave)[:, :, :100])
        assert encoder(wave).shape == (1, 527)


def test_the_two_names_of_a_front_end():
    assert is_paper("paper") and not is_paper("native")
    with pytest.raises(ValueError, match="Did you mean 'paper'"):
        decibel_front_end("papr")


def test_ast_log_mel_against_the_hugging_face_extractor(tiny, noise):
    transformers = pytest.importorskip("transformers")
    extractor, wave = transformers.ASTFeatureExtractor(), noise(3, 16000)
    features = extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="np")
    theirs = torch.as_tensor(features["input_values"])
    assert (tiny("ast").log_mel(wave).mT - theirs).abs().max() < 2e-3


# --- the precision that a user has chosen -------------------------------------------------------------------
MATMUL = torch.backends.cuda.matmul


@pytest.fixture
def precision():
    """The settings of matrix products, as they are on a fresh start, after the test too."""
    def reset():
        torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        MATMUL.fp32_precision = "none"

    reset()
    yield
    reset()


def set_matmul(value):
    MATMUL.fp32_precision = value


def set_all(value):
    torch.backends.fp32_precision = value


def set_mkldnn(value):
    torch.backends.mkldnn.matmul.fp32_precision = value


@pytest.mark.parametrize("choose, value", [
    (set_matmul, "tf32"), (set_matmul, "ieee"), (set_all, "tf32"), (set_all, "bf16"), (set_mkldnn, "bf16"),
    (torch.set_float32_matmul_precision, "high"), (torch.set_float32_matmul_precision, "medium"),
    (lambda allow: setattr(MATMUL, "allow_tf32", allow), True), (lambda _: None, None),
])
def test_a_front_end_leaves_the_precision_as_it_was(choose, value, precision, noise):
    choose(value)
    before = MATMUL.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
    with true_float32():
        inside = MATMUL.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
        assert not {"tf32", "bf16"} & set(inside)
    assert (MATMUL.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision) == before
    KaldiMel(0.0, 1.0)(noise(1, 16000))
    assert (MATMUL.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision) == before


def test_the_precision_of_all_backends_is_followed_later(precision):
    set_all("tf32")
    with true_float32():
        pass
    set_all("ieee")
    assert MATMUL.fp32_precision == "ieee" # not pinned to what it was inside


def test_what_was_set_by_the_old_names_can_be_read_by_them(precision):
    MATMUL.allow_tf32 = True
    with true_float32():
        pass
    assert MATMUL.allow_tf32 is True and torch.get_float32_matmul_precision() == "high"
