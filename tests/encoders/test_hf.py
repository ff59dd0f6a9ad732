"""Encoders from transformers: eight small models with random weights, saved to a folder and read."""
import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from spa_lib.data import load_waveform
from spa_lib.encoders import (
    CheckpointError,
    check_length,
    checkpoint_digest,
    create_encoder,
    encoder_label,
    encoder_names,
    read_options,
)
from spa_lib.encoders.hf import FRONT_ENDS, Extractor, difference, make_front_end, mean_over_frames

SMALL = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
KINDS = ("ast", "clap", "clap_fused", "wav2vec2", "hubert", "wavlm", "whisper", "wav2vec2_bert")


def tower_of(model):
    return getattr(model, "audio_model", None) or (
        model.get_encoder() if model.config.is_encoder_decoder else model)


def expected(folder, wave):
    """X_hat as someone who has transformers alone would get it."""
    model = tower_of(transformers.AutoModel.from_pretrained(folder)).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    clips = list(wave.numpy())
    inputs = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    x = inputs[model.main_input_name]
    with torch.no_grad():
        more = dict(is_longer=torch.zeros(len(wave), 1, dtype=torch.bool)) if "is_longer" in inputs else {}
        found = model(x, **more)
    if getattr(found, "pooler_output", None) is not None:
        return found.pooler_output
    hidden = found.last_hidden_state
    if hasattr(extractor, "nb_max_frames"): # Whisper's: two frames of the log-mel are one of the encoder
        hidden = hidden[:, :-(-wave.shape[1] // (2*extractor.hop_length))]
    return hidden.mean(1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_gives_what_transformers_gives(kind, hf_folder, noise):
    encoder = create_encoder(f"hf:{hf_folder(kind)}")
    wave = noise(1.1, encoder.sample_rate, batch=3)
    with torch.no_grad():
        X_hat = encoder.embed(wave, encoder.sample_rate)
        alone = encoder.embed(wave[1:2])
    assert X_hat.shape == (3, encoder.embed_dim) == (3, 32) and not encoder.training
    torch.testing.assert_close(X_hat, expected(hf_folder(kind), wave), rtol=2e-3, atol=2e-4)
    torch.testing.assert_close(alone[0], X_hat[1], rtol=1e-4, atol=1e-5)
    assert (X_hat[0] - X_hat[1]).abs().max() > 1e-4 # it hears


@pytest.mark.parametrize("kind", KINDS)
def test_front_end_equals_the_extractor(kind, hf_folder):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(hf_folder(kind))
    front_end = make_front_end("hf:x", json.loads(extractor.to_json_string()))
    assert difference(front_end, extractor) < 1e-3
    assert type(front_end) is FRONT_ENDS.get(type(extractor).__name__, Extractor)


@pytest.mark.parametrize("kind", ["ast", "clap", "clap_fused", "wav2vec2", "whisper"])
def test_front_end_equals_the_extractor_on_real_clips(kind, hf_folder, shared):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(hf_folder(kind))
    front_end = make_front_end("hf:x", json.loads(extractor.to_json_string()))
    files = sorted((shared / "data" / "ESC-50-part" / "audio").iterdir())[::100]
    for file in files[:4]:
        clip = load_waveform(file, extractor.sampling_rate)[:extractor.sampling_rate]
        wave = torch.from_numpy(clip)[None]
        wanted = Extractor(extractor)(wave)
        assert (front_end(wave) - wanted).abs().max() < 2e-3*max(1, wanted.abs().max())


def test_an_extractor_of_other_numbers_is_followed_or_called(hf_folder):
    numbers = json.loads(transformers.AutoFeatureExtractor.from_pretrained(hf_folder("ast")).to_json_string())
    other = make_front_end("hf:x", numbers | dict(mean=1.0, std=2.0, num_mel_bins=64))
    assert (other.mean, other.scale, other.n_mels) == (1.0, 4.0, 64)
    assert isinstance(make_front_end("hf:x", numbers | dict(sampling_rate=22050)), Extractor)
    whisper = json.loads(transformers.WhisperFeatureExtractor(dither=0.1).to_json_string())
    assert isinstance(make_front_end("hf:x", whisper), Extractor)


def test_a_front_end_that_went_wrong_is_not_used(hf_folder, monkeypatch):
    numbers = json.loads(transformers.Wav2Vec2FeatureExtractor().to_json_string())
    monkeypatch.setattr(FRONT_ENDS["Wav2Vec2FeatureExtractor"], "log_mel", lambda self, wave: wave*2)
    with pytest.warns(UserWarning, match="differs from its Wav2Vec2FeatureExtractor"):
        assert isinstance(make_front_end("hf:x", numbers), Extractor)


def test_pooling(hf_folder, noise):
    wave = noise(1, 16000, batch=2)
    own = create_encoder(f"hf:{hf_folder('ast')}")
    mean = create_encoder(f"hf:{hf_folder('ast')}", pool="mean")
    assert not torch.allclose(own.embed(wave), mean.embed(wave))
    assert read_options("hf:x", "pool=mean") == dict(pool="mean")
    with pytest.raises(ValueError, match="unknown option of hf:x 'poll'. Did you mean 'pool'"):
        read_options("hf:x", "poll=mean")
    with pytest.raises(ValueError, match="unknown pooling 'max'"):
        create_encoder(f"hf:{hf_folder('ast')}", pool="max")


def test_the_mean_leaves_padding_out():
    hidden = torch.arange(10.0).reshape(1, 10, 1)
    assert mean_over_frames(hidden, 0.5).item() == 2.0 and mean_over_frames(hidden, 1.0).item() == 4.5
    assert mean_over_frames(hidden, 1e-9).item() == 0.0
    assert mean_over_frames(torch.ones(2, 3, 4, 5), 0.1).shape == (2, 3)


def test_lengths(hf_folder, noise):
    speech, whisper = (create_encoder(f"hf:{hf_folder(kind)}") for kind in ("wav2vec2", "whisper"))
    assert speech.min_samples == 400 and speech.max_samples is None and whisper.max_samples == 32000
    assert speech.embed(noise(1, 400)).shape == (1, 32)
    with pytest.raises(ValueError, match="needs at least 400 samples"):
        speech.embed(noise(1, 399))
    with pytest.raises(ValueError, match=r"would cut these clips of 3 s at 2.00 s: set clip_seconds=2$"):
        check_length(whisper, 3)
    with pytest.warns(UserWarning, match="hf:whisper reads the first 2.00 s"):
        longer = whisper.embed(noise(3, 16000))
    torch.testing.assert_close(longer, whisper.embed(noise(3, 16000)[:, :32000]))
    with pytest.raises(ValueError, match="takes 16000 Hz, the wave has 44100"):
        speech.embed(noise(1, 44100), 44100)


def test_clap_is_not_left_to_chance(hf_folder, noise):
    encoder = create_encoder(f"hf:{hf_folder('clap_fused')}")
    state, wave = np.random.get_state()[1].copy(), noise(1, 48000, batch=2)
    assert torch.equal(encoder.embed(wave), encoder.embed(wave))
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_the_weights_and_the_same_seed_does_the_same(kind, hf_folder, noise):
    encoder = create_encoder(f"hf:{hf_folder(kind)}").train()
    wave, found = noise(1, encoder.sample_rate, batch=2), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(encoder.embed(wave))
    found[0].square().mean().backward()
    assert torch.equal(*found)
    used = {name: p for name, p in encoder.named_parameters() # the others serve masks and views of long clips
            if not name.endswith(("masked_spec_embed", "cls_token")) and ".fusion_model." not in name}
    assert not [name for name, p in used.items() if p.grad is None and ".mel_conv2d." not in name]


def test_masking_in_training_is_an_augmentation(hf_folder, noise):
    name, wave = f"hf:{hf_folder('wav2vec2')}", noise(1, 16000, batch=2)
    plain, masked = create_encoder(name), create_encoder(name, augment="recipe")
    masked.tower.config.mask_time_prob = 0.9
    assert torch.equal(plain.embed(wave), masked.embed(wave))
    state, found = np.random.get_state()[1].copy(), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(masked.train().embed(wave))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert (np.random.get_state()[1] == state).all()
    with pytest.raises(ValueError, match="ASTModel has no augmentation of its own: set augment=False"):
        create_encoder(f"hf:{hf_folder('ast')}", augment="recipe")


@pytest.mark.parametrize("kind", ["ast", "clap", "whisper", "wav2vec2"])
def test_an_encoder_is_made_again_without_its_folder(kind, hf_folder, noise):
    encoder = create_encoder(f"hf:{hf_folder(kind)}")
    options = json.loads(json.dumps(encoder.options))
    again = create_encoder("hf:elsewhere", **options)
    again.load_state_dict(encoder.state_dict())
    wave = noise(1, encoder.sample_rate)
    assert torch.equal(again.embed(wave), encoder.embed(wave)) and again.checkpoint is None


# --- names and digests --------------------------------------------------------------------------------------
def test_a_name_is_that_of_the_model_and_not_of_its_place(hf_folder, tmp_path):
    assert encoder_label("hf:MIT/ast") == "hf:MIT/ast" and encoder_label("mn") == "mn"
    assert encoder_label("hf:/models/ast/") == "hf:ast" == encoder_label("hf:./ast")
    encoder = create_encoder(f"hf:{hf_folder('ast')}")
    assert encoder.name == "hf:ast" and encoder.checkpoint["name"] == "ast"
    assert not any(name.startswith("hf") for name in encoder_names())


def test_the_digest_is_of_what_the_model_is_made_from(hf_folder, tmp_path):
    name = f"hf:{hf_folder('ast')}"
    digest = create_encoder(name).checkpoint["sha256"]
    moved = shutil.copytree(hf_folder("ast"), tmp_path / "moved")
    (moved / "README.md").write_text("not a part of it")
    assert checkpoint_digest(name, None) == digest == checkpoint_digest(f"hf:{moved}", None)
    numbers = json.loads((moved / "preprocessor_config.json").read_text())
    (moved / "preprocessor_config.json").write_text(json.dumps(numbers | dict(mean=0.0)))
    assert checkpoint_digest(f"hf:{moved}", None) != digest
    assert checkpoint_digest(f"hf:{tmp_path}/nowhere", None) is None


# --- what is refused ----------------------------------------------------------------------------------------
def refused(name, error=CheckpointError):
    with pytest.raises(error) as found:
        create_encoder(name)
    message = str(found.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_models_that_do_not_hear(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=20)).save_pretrained(tmp_path / "bert")
    assert "is no audio model: a BertModel takes input_ids" in refused(f"hf:{tmp_path}/bert")
    vit = transformers.ViTModel(transformers.ViTConfig(**SMALL))
    vit.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor().save_pretrained(tmp_path / "vit")
    assert "hf:vit" in refused(f"hf:{tmp_path}/vit") and "pixel_values" in refused(f"hf:{tmp_path}/vit")


def test_a_codec_gives_no_embeddings(tmp_path):
    config = transformers.EncodecConfig(num_filters=4, hidden_size=8, codebook_size=16, codebook_dim=8,
                                        upsampling_ratios=[2, 2], num_lstm_layers=1)
    transformers.EncodecModel(config).save_pretrained(tmp_path / "codec")
    transformers.EncodecFeatureExtractor().save_pretrained(tmp_path / "codec")
    assert "gives no embeddings of frames" in refused(f"hf:{tmp_path}/codec")


def test_folders_that_are_no_model(hf_folder, tmp_path):
    assert "there is no folder" in refused(f"hf:{tmp_path}/nowhere", FileNotFoundError)
    assert "there is no config.json in it" in refused(f"hf:{tmp_path}", FileNotFoundError)
    part = shutil.copytree(hf_folder("wav2vec2"), tmp_path / "part")
    (part / "preprocessor_config.json").unlink()
    assert "there is no preprocessor_config.json" in refused(f"hf:{part}")
    (part / "model.safetensors").unlink()
    assert "holds no weights beside its config.json" in refused(f"hf:{part}", FileNotFoundError)
    (part / "config.json").write_text('{"model_type": "beats"}')
    (part / "model.safetensors").write_bytes(b"")
    assert "transformers" in refused(f"hf:{part}") and "beats" in refused(f"hf:{part}")


def test_code_that_a_model_brings_is_not_run(hf_folder, tmp_path):
    own = shutil.copytree(hf_folder("wav2vec2"), tmp_path / "own")
    numbers = json.loads((own / "config.json").read_text())
    numbers |= dict(model_type="ced", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    (own / "config.json").write_text(json.dumps(numbers))
    (own / "code.py").write_text("raise SystemExit('it was run')")
    message = refused(f"hf:{own}")
    assert "brings Python code of its own, which is not run" in message and "register_encoder" in message


def test_weights_of_another_model(hf_folder, tmp_path):
    mixed = shutil.copytree(hf_folder("wav2vec2"), tmp_path / "mixed")
    shutil.copy(hf_folder("ast") / "model.safetensors", mixed)
    assert "they are of another model" in refused(f"hf:{mixed}")
    whole = (hf_folder("wav2vec2") / "model.safetensors").read_bytes()
    (mixed / "model.safetensors").write_bytes(whole[:500])
    assert "is cut off after 500" in refused(f"hf:{mixed}")


def test_a_few_missing_weights_are_named(hf_folder, tmp_path):
    from safetensors.torch import load_file, save_file
    part = shutil.copytree(hf_folder("whisper"), tmp_path / "part")
    tensors = load_file(part / "model.safetensors")
    del tensors[next(key for key in tensors if "encoder.layer_norm.bias" in key)]
    save_file(tensors, part / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match="lack 1 weights of WhisperEncoder, as encoder.layer_norm.bias"):
        create_encoder(f"hf:{part}")


def test_a_checkpoint_beside_it_is_refused(hf_folder):
    with pytest.raises(ValueError, match="brings its weights: leave checkpoint out"):
        create_encoder(f"hf:{hf_folder('ast')}", checkpoint="x.pt")
    with pytest.raises(ValueError, match="size of hf"):
        create_encoder(f"hf:{hf_folder('ast')}", size="tiny")
    with pytest.raises(NotImplementedError, match="encoder='ast', checkpoint=FOLDER"):
        create_encoder(f"hf:{hf_folder('ast')}")(torch.zeros(1, 16000))


def test_the_hub_without_a_network(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = refused("hf:MIT/ast", OSError)
    assert "MIT/ast cannot be had from the Hugging Face hub (no connection)" in message
    assert checkpoint_digest("hf:MIT/ast", None) is None


def test_a_model_of_the_hub(monkeypatch, hf_folder):
    import huggingface_hub

    asked = []

    def download(source, allow_patterns, local_files_only):
        asked.append((source, local_files_only))
        return str(hf_folder("wav2vec2"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    encoder = create_encoder("hf:facebook/wav2vec2-base")
    assert encoder.name == "hf:facebook/wav2vec2-base" == encoder_label(encoder.name)
    assert asked == [("facebook/wav2vec2-base", False)]
