"""Encoders: the authors' values, independent oracles, what is refused, augmentation, precision."""
import collections
import importlib.util
import inspect
import json
import math
import pickle
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import numpy as np
import pytest
import torch

from spa_lib.encoders import Encoder, create_encoder, encoder_names
from spa_lib.encoders.base import CHECKPOINTS, CheckpointError, encoder_class, load_official, read_checkpoint
from spa_lib.encoders.frontend import DecibelMel, KaldiMel, PasstMel, kaldi_mel_bank, slaney_mel_bank

NAMES = encoder_names()
GOLDEN = {"psla": "psla", "panns": "cnn14", "ast": "ast", "passt": "passt", "htsat": "htsat"}
WRAPPED = {"panns": lambda s: {"iteration": 1, "model": s}, "htsat": lambda s: {"epoch": 1, "state_dict": s}}


def noise(seconds, rate, batch=1, seed=0):
    return 0.1 * torch.randn(batch, int(seconds * rate), generator=torch.Generator().manual_seed(seed))


def tiny(name, seed=0, **options):
    torch.manual_seed(seed)
    return create_encoder(name, size="tiny", **options)


def on_meta(name, size="base"):
    cls = encoder_class(name)
    with torch.device("meta"):
        return cls(size=size, **cls.SIZES[size])


def relative(found, wanted):
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())


# --- the authors' values -------------------------------------------------------------------------------------------
def golden_parts(shared, name):
    folder = shared / "golden" / "encoders"
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    return fill, fill.read_spec(folder / f"{GOLDEN[name]}.json"), np.load(folder / f"{GOLDEN[name]}.npz")


def official_file(fill, spec, name, path):
    state = {k: torch.from_numpy(v) for k, v in fill.fill_state_dict(spec, spec["salt"]).items()}
    torch.save(WRAPPED.get(name, lambda s: s)(state), path)
    return path


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


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_short_clip(shared, name, tmp_path):
    fill, spec, values = golden_parts(shared, name)
    short = spec["short_waveform"]
    wave = fill.waveform(short["seed"], spec["sample_rate"], short["seconds"])
    assert np.array_equal(wave[:64], values["short_waveform_head"][0])
    encoder = create_encoder(name, checkpoint=official_file(fill, spec, name, tmp_path / "x.pth"))
    assert encoder.sample_rate == spec["sample_rate"] and not encoder.training
    check_golden(encoder, wave[None], values, "short_")


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_ten_seconds(shared, name, tmp_path):
    fill, spec, values = golden_parts(shared, name)
    waves = np.stack([fill.waveform(s, spec["sample_rate"]) for s in spec["waveform_seeds"]])
    encoder = create_encoder(name, checkpoint=official_file(fill, spec, name, tmp_path / "x.pth"))
    hidden = check_golden(encoder, waves, values, "")
    if name == "psla":
        assert relative(hidden.mT[:, ::8], values["frame_embedding"]) < 1e-4


@pytest.mark.slow
def test_golden_psla_with_the_padding_of_071(shared, tmp_path):
    fill, spec, values = golden_parts(shared, "psla")
    wave = torch.from_numpy(np.stack([fill.waveform(s, 16000) for s in spec["waveform_seeds"]]))
    encoder = create_encoder("psla", checkpoint=official_file(fill, spec, "psla", tmp_path / "x.pth"), padding="0.7.1")
    with torch.no_grad():
        assert relative(encoder.embed(wave), values["embedding_pad071"]) < 1e-4
        assert np.abs(encoder(wave).sigmoid().numpy() - values["probs_pad071"]).max() < 2e-5


@pytest.mark.parametrize("name", GOLDEN)
def test_keys_are_the_official_ones(shared, name):
    spec = json.loads((shared / "golden" / "encoders" / f"{GOLDEN[name]}.json").read_text())
    encoder = on_meta(name)
    official = {r["key"].removeprefix(spec["key_prefix"]): tuple(r["shape"]) for r in spec["keys"]}
    ours = {k: tuple(v.shape) for k, v in encoder.state_dict().items()}
    assert ours.items() <= official.items()
    unused = {k.removeprefix(spec["key_prefix"]) for k in spec["unused_keys"]}
    fixed = {r["key"].removeprefix(spec["key_prefix"]) for r in spec["keys"] if r["fixed"]}
    assert official.keys() - ours.keys() <= unused | fixed


def mn04_scores(shared, encoder, index):
    """Largest difference to the stored scores of EfficientAT's own code, resampled as they were."""
    soundfile = pytest.importorskip("soundfile")
    from scipy.signal import resample_poly

    golden = np.load(shared / "golden" / "mn04_scores_esc.npz")
    worst = 0.0
    for i in range(len(golden["filename"]))[index]:
        x, rate = soundfile.read(shared / "data" / "ESC-50-part" / "audio" / golden["filename"][i], dtype="float32")
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


# --- sizes ---------------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("size, keys, parameters", [("mn01", 294, None), ("mn04", 312, 983_599), ("mn05", 312, 1_431_239), ("mn40", 312, 68_427_303)])
def test_widths_of_mn(size, keys, parameters):
    encoder = on_meta("mn", size)
    assert len(encoder.state_dict()) == keys
    assert parameters in (None, sum(p.numel() for p in encoder.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_tiny_and_the_same_code(name):
    encoder = tiny(name)
    assert sum(p.numel() for p in encoder.parameters()) < 1_500_000
    assert type(encoder) is encoder_class(name) and isinstance(encoder, Encoder) and encoder.size == "tiny"
    assert not any("window" in k or "bank" in k for k in encoder.state_dict())


# --- behaviour that all share --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_shapes_from_half_a_second_to_thirty(name):
    encoder = tiny(name)
    for seconds in (0.5, 5, 10, 30):
        wave = noise(seconds, encoder.sample_rate)
        with torch.no_grad():
            X_hat, logits = encoder.embed(wave), encoder(wave, sample_rate=encoder.sample_rate)
        assert X_hat.shape == (1, encoder.embed_dim) and logits.shape == (1, 527)
        assert X_hat.isfinite().all() and logits.isfinite().all() and X_hat.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_the_same_alone_and_in_a_batch(name):
    encoder = tiny(name)
    wave = noise(2, encoder.sample_rate, batch=3)
    with torch.no_grad():
        together, alone = encoder.embed(wave), torch.cat([encoder.embed(w[None]) for w in wave])
        assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()))
        assert torch.allclose(encoder(wave)[1:2], encoder(wave[1:2]), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_shortest_clip_is_stated(name):
    encoder = tiny(name)
    least = encoder.min_samples
    assert least <= 0.5 * encoder.sample_rate
    assert encoder(noise(1, encoder.sample_rate)[:, :least]).isfinite().all()
    with pytest.raises(ValueError, match=f"at least {least} samples"):
        encoder(torch.zeros(1, least - 1))


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_full_scale_are_finite(name):
    encoder = tiny(name)
    for wave in (torch.zeros(1, encoder.sample_rate), torch.ones(1, encoder.sample_rate)):
        assert encoder(wave).isfinite().all() and encoder.embed(wave).isfinite().all()


def test_what_is_refused():
    encoder = tiny("mn")
    wave = noise(1, 32000)
    for wrong, rate, say in ((wave, 16000, "32000 Hz, the wave has 16000"), (wave[0], None, r"wave\[None\]"), (wave[None], None, "mix channels"),
                             (wave.int(), None, "32768"), ([wave[0], wave[0, :900]], None, "different length"), (wave.numpy(), None, "tensor")):
        with pytest.raises(ValueError, match=say):
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
def test_gradients_reach_every_parameter(name):
    encoder = tiny(name, clip_seconds=2).train()
    wave = noise(2, encoder.sample_rate, batch=2)
    (encoder(wave).square().mean() + encoder.embed(wave).square().mean()).backward()
    missing = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


# --- front ends against others' ------------------------------------------------------------------------------------
def test_kaldi_front_end_against_torchaudio():
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    wave = noise(2, 16000) + 0.3 * torch.sin(torch.arange(32000) / 5)
    theirs = kaldi.fbank(wave - wave.mean(), htk_compat=True, sample_frequency=16000, use_energy=False, window_type="hanning",
                         num_mel_bins=128, dither=0.0, frame_shift=10)
    ours = KaldiMel(mean=0.0, scale=1.0)(wave)[0].mT
    assert ours.shape == theirs.shape == (198, 128) and (ours - theirs).abs().max() < 1e-3


def test_mel_banks_against_torchaudio_and_librosa():
    kaldi, librosa = pytest.importorskip("torchaudio.compliance.kaldi"), pytest.importorskip("librosa")
    theirs, _ = kaldi.get_mel_banks(128, 1024, 32000.0, 0.0, 15000.0, 100.0, -500.0, 1.0)
    assert (kaldi_mel_bank(128, 1024, 32000, 0, 15000)[:, :512] - theirs).abs().max() < 5e-5
    for rate, fft, low, high in ((32000, 1024, 50, 14000), (16000, 512, 50, 8000)):
        theirs = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=64, fmin=low, fmax=high)
        assert np.abs(slaney_mel_bank(64, fft, rate, low, high).numpy() - theirs).max() < 1e-8


def test_decibel_front_end_against_torchaudio():
    transforms = pytest.importorskip("torchaudio.transforms")
    wave = noise(1, 32000)
    mel = transforms.MelSpectrogram(32000, n_fft=1024, hop_length=320, n_mels=64, f_min=50, f_max=14000, norm="slaney", mel_scale="slaney", pad_mode="reflect")
    theirs = 10 * mel(wave).clamp(min=1e-10).log10()
    assert (DecibelMel()(wave) - theirs).abs().max() < 1e-3


def test_passt_front_end_on_a_sine():
    n = torch.arange(32000, dtype=torch.float64)
    x = PasstMel()((0.5 * torch.sin(2 * torch.pi * 1000 * n / 32000)).float()[None])[0]
    assert x.shape == (128, 100) and abs(x.mean() + 1.166507) < 1e-4 and abs(x.max() - 2.090460) < 1e-3 and x[:, 50].argmax() == 36
    assert torch.allclose(x[[0, 32, 64, 127], 50], torch.tensor([-1.402562, -0.227309, -1.402283, -1.402585]), atol=3e-4)
    assert torch.allclose(x[[0, 32, 64, 127], 0], torch.tensor([-0.591063, 0.400679, -0.767604, -1.343107]), atol=3e-4)
    assert PasstMel()(torch.zeros(1, 320000)).shape == (1, 128, 1000)


def test_jitter_of_the_mel_bank_in_training_only():
    mel, wave = PasstMel(jitter=True).eval(), noise(1, 32000)
    assert torch.equal(mel(wave), PasstMel()(wave))
    mel.train()
    torch.manual_seed(0)
    assert not torch.equal(mel(wave), mel(wave))


def test_the_papers_front_end_read_literally():
    for name in NAMES:
        encoder = tiny(name, front_end="paper", clip_seconds=2)
        assert encoder.sample_rate == 32000
        x = encoder.log_mel(noise(2, 32000), 32000)
        assert x.shape[1] == 128 and torch.allclose(x[:, :, :100], PasstMel()(noise(2, 32000))[:, :, :100])
        assert encoder(noise(2, 32000)).shape == (1, 527)


@pytest.mark.parametrize("name", ["panns", "htsat"])
def test_a_released_file_of_64_bins_refuses_the_papers_front_end(name, tmp_path):
    torch.save(tiny(name).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="64 mel bins"):
        create_encoder(name, checkpoint=tmp_path / "x.pth", front_end="paper")


# --- transformers as an oracle -------------------------------------------------------------------------------------
def hugging_face_ast():
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384, frequency_stride=10, time_stride=10,
                       max_length=1024, num_labels=527, layer_norm_eps=1e-6)
    model = ASTForAudioClassification(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


OLD_NAMES = ((".layers.", ".encoder.layer."), (".attention.q_proj.", ".attention.attention.query."), (".attention.k_proj.", ".attention.attention.key."),
             (".attention.v_proj.", ".attention.attention.value."), (".attention.o_proj.", ".attention.output.dense."), (".mlp.fc1.", ".intermediate.dense."),
             (".mlp.fc2.", ".output.dense."))


@pytest.mark.parametrize("form", ["folder", "safetensors", "old names"])
def test_ast_takes_the_hugging_face_form(form, tmp_path):
    pytest.importorskip("transformers")
    model = hugging_face_ast()
    if form == "old names":
        state = model.state_dict()
        for new, old in OLD_NAMES:
            state = {k.replace(new, old): v for k, v in state.items()}
        assert "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight" in state
        path = tmp_path / "pytorch_model.bin"
        torch.save(state, path)
    else:
        model.save_pretrained(tmp_path)
        path = tmp_path if form == "folder" else tmp_path / "model.safetensors"
    encoder = create_encoder("ast", checkpoint=path)
    assert encoder.v.grid == (12, 101) and encoder.embed_dim == 96
    x = encoder.log_mel(noise(3, 16000))
    with torch.no_grad():
        theirs = model(input_values=x.mT, output_hidden_states=True)
        assert torch.allclose(encoder.logits(encoder.hidden(x)), theirs.logits, atol=1e-4 * float(theirs.logits.abs().max()))


def test_ast_log_mel_against_the_hugging_face_extractor():
    transformers = pytest.importorskip("transformers")
    extractor, wave = transformers.ASTFeatureExtractor(), noise(3, 16000)
    theirs = torch.as_tensor(extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="np")["input_values"])
    assert (tiny("ast").log_mel(wave).mT - theirs).abs().max() < 2e-3


SWIN = (("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"), ("attention.output.dense", "attn.proj"),
        ("layernorm_before", "norm1"), ("layernorm_after", "norm2"), ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
        ("audio_encoder.", ""), ("batch_norm", "bn0"))


def test_htsat_against_the_audio_tower_of_clap():
    transformers = pytest.importorskip("transformers")
    options = dict(dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))
    config = transformers.ClapAudioConfig(spec_size=256, num_mel_bins=64, hidden_size=128, patch_embeds_hidden_size=16, depths=[2, 2, 2, 2],
                                          num_attention_heads=[1, 2, 4, 8], enable_fusion=False, hidden_dropout_prob=0.0, drop_path_rate=0.1, layer_norm_eps=1e-5)
    torch.manual_seed(0)
    model = transformers.ClapAudioModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    state = {k: v for k, v in model.state_dict().items() if "relative_position_index" not in k}
    for theirs, ours in SWIN:
        state = {k.replace(theirs, ours): v for k, v in state.items()}
    for key in [k for k in state if ".query." in k]:
        parts = [state.pop(key.replace("query", p)) for p in ("query", "key", "value")]
        state[key.replace("attention.self.query", "attn.qkv")] = torch.cat(parts)
    encoder = encoder_class("htsat")(size="base", **options).eval()
    state |= {k: v for k, v in encoder.state_dict().items() if k.startswith("tscam_conv.")}
    load_official(encoder, state)
    x = encoder.front_end(noise(10, 32000))
    with torch.no_grad():
        theirs = model(input_features=x.mT[:, None]).pooler_output
        ours = encoder.pool(encoder.hidden(x))
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


# --- checkpoints ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_encoder_comes_back_by_its_shapes(name, tmp_path):
    encoder = tiny(name, clip_seconds=10)
    torch.save({"module." + k: v for k, v in encoder.state_dict().items()}, tmp_path / "x.pth")
    again, wave = create_encoder(name, checkpoint=tmp_path / "x.pth"), noise(2, encoder.sample_rate)
    assert torch.equal(again(wave), encoder(wave)) and len(again.checkpoint["sha256"]) == 64


@pytest.mark.parametrize("name, stride, positions", [("ast", 12, 850), ("ast", 14, 657), ("ast", 16, 512), ("passt", 16, 62)])
def test_other_strides_are_read_off_the_position_tables(name, stride, positions, tmp_path):
    encoder = tiny(name, stride=stride)
    table = encoder.state_dict()["v.pos_embed" if name == "ast" else "time_new_pos_embed"]
    assert (table.shape[1] - 2 if name == "ast" else table.shape[3]) == positions
    torch.save(encoder.state_dict(), tmp_path / "x.pth")
    wave = noise(1, encoder.sample_rate)
    assert torch.equal(create_encoder(name, checkpoint=tmp_path / "x.pth")(wave), encoder(wave))


def test_ast_positions_at_other_lengths(tmp_path):
    encoder = tiny("ast", stride=10)
    torch.save(encoder.state_dict(), tmp_path / "x.pth")
    table = encoder.v.pos_embed[0, 2:].view(12, 101, -1)
    shorter = create_encoder("ast", checkpoint=tmp_path / "x.pth", clip_seconds=5)
    assert shorter.v.grid == (12, 50)
    assert torch.equal(shorter.v.pos_embed[0, 2:].view(12, 50, -1), table[:, 25:75]) # from the middle
    longer = create_encoder("ast", checkpoint=tmp_path / "x.pth", clip_seconds=20)
    assert longer.v.grid == (12, 204) and torch.equal(longer.v.pos_embed[:, :2], encoder.v.pos_embed[:, :2])
    assert longer(noise(20, 16000)).shape == (1, 527)


def test_passt_uses_the_first_columns_and_cuts_what_is_too_long():
    encoder = tiny("passt", stride=10)
    wave = noise(12, 32000)
    with torch.no_grad():
        assert encoder.patches(encoder.log_mel(wave)).shape[1] == 12 * 99
        cut = encoder.log_mel(wave)[..., :996]
        assert torch.equal(encoder(wave), encoder.logits(encoder.hidden(cut)))


def broken(encoder, change):
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    change(state)
    return state


def drop(prefix, state):
    for k in [k for k in state if k.startswith(prefix)]:
        del state[k]


@pytest.mark.parametrize("change, cause, listed", [
    (lambda s: drop("mlp_head.1", s), "head is missing", "2 missing: mlp_head.1.weight"),
    (lambda s: s.update({"mlp_head.1.weight": torch.zeros(50, 96), "mlp_head.1.bias": torch.zeros(50)}), "another data set", r"instead of \(527, 96\)"),
    (lambda s: drop("v.blocks.1.mlp.", s), "incomplete", "4 missing"),
    (lambda s: s.update({"v.norm.weight": torch.zeros(192)}), "another size", r"v.norm.weight \(192,\) instead of \(96,\)"),
    (lambda s: s.update({"extra.weight": torch.zeros(1)}), "variant", "1 unexpected: extra.weight"),
    (lambda s: (s.clear(), s.update({"net.w": torch.zeros(1)})), "unknown prefix", "missing"),
])
def test_the_report_of_a_file_that_does_not_fit(change, cause, listed, tmp_path):
    torch.save(broken(tiny("ast"), change), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=cause) as error:
        create_encoder("ast", size="tiny", checkpoint=tmp_path / "x.pth")
    assert re.search(listed, str(error.value)) and isinstance(error.value, ValueError)


@pytest.mark.parametrize("theirs", NAMES)
def test_another_encoders_file_is_recognised(theirs, tmp_path):
    mine = "ast" if theirs != "ast" else "passt"
    torch.save(tiny(theirs).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"{theirs}'s keys"):
        create_encoder(mine, checkpoint=tmp_path / "x.pth")


class Callback: # as a training framework would leave it in a file
    def __init__(self):
        self.best = 0.5


class Evil:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path(%r).touch()" % Evil.path,)


def test_a_file_runs_nothing(tmp_path):
    state = {"sed_model.w": torch.ones(2), "sed_model.n": torch.tensor(3.0)}
    held = {"state_dict": state, "callbacks": {Callback: Callback()}, "sampler": np.arange(3), "counts": collections.Counter("ab")}
    torch.save(held, tmp_path / "x.ckpt")
    assert list(read_checkpoint(tmp_path / "x.ckpt")) == ["w", "n"]
    torch.save(held, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "old.ckpt")["w"], torch.ones(2))
    Evil.path = str(tmp_path / "ran")
    torch.save({"model": state, "x": Evil()}, tmp_path / "evil.pth")
    try:
        read_checkpoint(tmp_path / "evil.pth")
    except CheckpointError:
        pass
    assert not (tmp_path / "ran").exists()


def test_floats_for_counters_and_missing_counters_are_taken(tmp_path):
    encoder = tiny("panns")
    state = {k: v.float() for k, v in encoder.state_dict().items()}
    torch.save({"model": state}, tmp_path / "averaged.pth")
    again = create_encoder("panns", checkpoint=tmp_path / "averaged.pth")
    assert again.bn0.num_batches_tracked.dtype == torch.int64
    drop("bn0.num_batches_tracked", state)
    torch.save({"model": state}, tmp_path / "old.pth")
    create_encoder("panns", checkpoint=tmp_path / "old.pth")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", pickle.dumps([1, 2])])
def test_a_file_that_is_no_checkpoint(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="x.pth"):
        create_encoder("mn", checkpoint=tmp_path / "x.pth")


def test_a_name_is_downloaded_once_and_its_digest_recorded(tmp_path, monkeypatch):
    torch.save(tiny("mn").state_dict(), tmp_path / "mn04_as_mAP_432.pt")
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    row = CHECKPOINTS["mn04_as"]
    monkeypatch.setitem(CHECKPOINTS, "mn04_as", replace(row, url=f"http://127.0.0.1:{server.server_port}/{row.file}", sha256=None))
    for _ in range(2):
        encoder = create_encoder("mn", checkpoint="mn04_as")
    server.shutdown()
    assert len(asked) == 1 and encoder.checkpoint["name"] == "mn04_as" and encoder.width == 0.2
    assert encoder.checkpoint["path"].endswith("checkpoints/mn/mn04_as.pt")


def test_the_checkpoint_table():
    for name, row in CHECKPOINTS.items():
        assert row.encoder in NAMES and row.url.startswith("https://") and 25 < row.mAP < 50 and row.licence and row.front_end
        parameters = inspect.signature(encoder_class(row.encoder)).parameters
        assert all(o in parameters for o in row.options), name
    with pytest.raises(OSError, match="by hand"):
        create_encoder("htsat", checkpoint="HTSAT_AudioSet_Saved_1")
    with pytest.raises(ValueError, match="mn04_as"):
        create_encoder("mn", checkpoint="mn04as")
    with pytest.raises(FileNotFoundError, match="mn04_as' downloads"):
        create_encoder("mn", checkpoint="nowhere/mn04_as_mAP_432.pt")


# --- augmentation --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_acts_in_training_only(name):
    wave = noise(2, encoder_class(name) and tiny(name).sample_rate, batch=2)
    plain, recipe = tiny(name), tiny(name, augment="recipe")
    with torch.no_grad():
        assert torch.equal(plain(wave), recipe(wave))
        recipe.train()
        torch.manual_seed(0)
        first = recipe(wave)
        torch.manual_seed(0)
        assert torch.equal(first, recipe(wave)) and first.isfinite().all() and first.shape == (2, 527)


def test_each_switch_changes_what_is_heard():
    wave = noise(2, 32000, batch=2)
    for switch in (dict(gain_low=-7, gain_high=6), dict(roll=50), dict(freq_mask=48), dict(time_mask=192), dict(jitter=True), dict(patchout_time=10), dict(patchout_freq=4)):
        encoder = tiny("passt", augment=switch).train()
        torch.manual_seed(1)
        with torch.no_grad():
            assert not torch.equal(encoder(wave), encoder(wave)), switch


def test_patchout_leaves_the_published_number_of_tokens():
    encoder = tiny("passt", stride=10, augment="recipe").train()
    x = encoder.log_mel(noise(10, 32000, batch=2))
    assert encoder.patches(x).shape[1] == 59 * 8
    encoder.eval()
    assert encoder.patches(x).shape[1] == 99 * 12


def test_masks_write_a_zero_before_the_normalisation():
    for name, value in (("ast", 4.2677393 / (2 * 4.5689974)), ("psla", 4.6476 / 4.5699), ("passt", 0.9)):
        encoder = tiny(name, augment=dict(freq_mask=48)).train()
        torch.manual_seed(3)
        x = encoder.log_mel(noise(2, encoder.sample_rate, batch=4))
        hit = (x - value).abs().amax(2) < 1e-5
        assert hit.any() and (hit.sum(1) <= 48).all()


def test_stochastic_depth_and_dropout_only_in_training():
    for name in ("psla", "htsat", "panns", "mn"):
        encoder = tiny(name)
        wave = noise(1, encoder.sample_rate, batch=2)
        with torch.no_grad():
            assert torch.equal(encoder(wave), encoder(wave))


# --- precision and compilation -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_front_end_is_float32_under_autocast_and_in_bfloat16(name):
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
def test_torch_compile(name):
    encoder = tiny(name, clip_seconds=2)
    wave = noise(2, encoder.sample_rate)
    with torch.no_grad():
        assert torch.allclose(torch.compile(encoder)(wave), encoder(wave), atol=1e-4)


def test_importing_the_wing_imports_no_encoder():
    code = "import sys, spa_lib.encoders; print([m for m in sys.modules if m.startswith('spa_lib.encoders.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['spa_lib.encoders.base']"
