"""What a file is, whatever it is called: its front end, the order of its classes, the length it takes."""
import json
import re
import shutil
import warnings
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from spa_lib.encoders import CHECKPOINTS, CheckpointError, create_encoder, read_checkpoint
from spa_lib.runs import RunConfig, config_hash, make_config, run_name
from spa_lib.train import make_encoder
from spa_lib.utils import sha256_of

FRONT_ENDS = { # name in the table -> mel bins, hop in samples
    "mn04_as": (128, 320), "mn10_as_hop_5": (128, 160), "mn10_as_hop_15": (128, 480),
    "mn10_as_hop_20": (128, 640), "mn10_as_hop_25": (128, 800), "mn10_as_mels_40": (40, 320),
    "mn10_as_mels_64": (64, 320), "mn10_as_mels_256": (256, 320),
}


@pytest.fixture(scope="module")
def mn_file(tmp_path_factory, tiny):
    """A file of mn: its tensors say nothing of the front end."""
    path = tmp_path_factory.mktemp("mn") / "renamed.pt"
    torch.save(tiny("mn").state_dict(), path)
    return path


def mel_and_hop(encoder):
    return encoder.front_end.n_mels, encoder.front_end.hop


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_released_file_brings_its_front_end(name, tmp_path, mn_file, monkeypatch):
    row = CHECKPOINTS[name]
    monkeypatch.setitem(CHECKPOINTS, name, replace(row, sha256=None)) # the file is made up
    stem, suffix = row.file.rsplit(".", 1)
    for file in (row.file, f"{name}.pt", f"{stem} (1).{suffix}"):
        path = shutil.copy(mn_file, tmp_path / file)
        assert mel_and_hop(create_encoder("mn", checkpoint=path)) == FRONT_ENDS[name], file
    monkeypatch.setitem(CHECKPOINTS, name, replace(row, sha256=sha256_of(mn_file)))
    assert mel_and_hop(create_encoder("mn", checkpoint=mn_file)) == FRONT_ENDS[name] # by its content


def test_the_table_says_the_front_end_that_it_gives():
    for name, row in CHECKPOINTS.items():
        assert row.front_end.startswith(("16 kHz, ", "32 kHz, ")), name
        mels, hop = (re.search(pattern, row.front_end) for pattern in (r"(\d+) mel", r"hop (\d+)"))
        assert int(mels[1]) == row.options.get("n_mels", 64 if row.encoder in ("panns", "htsat") else 128)
        assert int(hop[1] if hop else 320) == row.options.get("hop", 320), name


def test_a_digest_goes_before_a_name(tmp_path, mn_file, monkeypatch):
    row = CHECKPOINTS["mn10_as_mels_64"]
    monkeypatch.setitem(CHECKPOINTS, "mn10_as_mels_64", replace(row, sha256="0" * 64))
    path = shutil.copy(mn_file, tmp_path / row.file)
    assert mel_and_hop(create_encoder("mn", checkpoint=path)) == (128, 320)


def test_passt_at_other_hops_takes_ten_seconds(tmp_path, tiny):
    file = CHECKPOINTS["passt-s-f128-stfthop100-p16-s10-ap.473-swa"].file
    torch.save(tiny("passt", stride=10, hop=100).state_dict(), tmp_path / file)
    encoder = create_encoder("passt", checkpoint=tmp_path / file)
    assert encoder.front_end.hop == 100 and encoder.clip_seconds == 10 and encoder.grid == (12, 319)
    torch.save(encoder.state_dict(), tmp_path / "renamed.pt")
    again = create_encoder("passt", checkpoint=tmp_path / "renamed.pt", hop=100)
    assert again.clip_seconds == 10 and again.grid == (12, 319)


def test_a_run_states_its_front_end(mn_file):
    cfg = make_config("smoke", encoder="mn", size="base", checkpoint=str(mn_file))
    assert mel_and_hop(make_encoder(cfg)) == (128, 320)
    stated = replace(cfg, encoder_options="n_mels=64 hop=160")
    assert mel_and_hop(make_encoder(stated)) == (64, 160) and config_hash(stated) != config_hash(cfg)
    fresh = make_config("smoke", encoder="ast", encoder_options="front_end=paper")
    assert make_encoder(fresh).sample_rate == 32000
    assert RunConfig.encoder_options == ""
    assert run_name(make_config("smoke", alpha=0.0)).endswith("5dd2870a3a") # as it was before the field


@pytest.mark.parametrize("options, message", [
    ("n_mel=64", "Did you mean 'n_mels'"), ("n_mels", "name=value"), ("n_mels=many", "n_mels"),
    ("augment=recipe", "augment"), ("hop=160 hop=320", "twice"),
])
def test_options_that_cannot_be_read_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        make_config("smoke", encoder="mn", encoder_options=options)


def test_a_stated_front_end_against_the_released_one_warns(tmp_path, mn_file):
    path = shutil.copy(mn_file, tmp_path / "mn10_as_mels_64_mAP_461.pt")
    with pytest.warns(UserWarning, match="n_mels=64.*n_mels=128"):
        assert mel_and_hop(create_encoder("mn", checkpoint=path, n_mels=128)) == (128, 320)


@pytest.mark.parametrize("name, stated, message", [
    ("panns", dict(n_mels=128), "n_mels.*64.*128"), ("htsat", dict(n_mels=128), "n_mels.*64.*128"),
    ("ast", dict(stride=10), "stride.*16.*10"), ("mn", dict(width=1.0), "width.*0.2.*1.0"),
])
def test_what_the_tensors_say_is_not_overruled(name, stated, message, tmp_path, tiny):
    torch.save(tiny(name).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        create_encoder(name, checkpoint=tmp_path / "x.pth", **stated)


def test_the_rate_of_panns_kernels_is_not_overruled(tmp_path, tiny):
    kernels = {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(257, 1, 512)}
    torch.save(tiny("panns").state_dict() | kernels, tmp_path / "x.pth")
    assert create_encoder("panns", checkpoint=tmp_path / "x.pth").sample_rate == 16000
    with pytest.raises(CheckpointError, match="sample_rate.*16000.*32000"):
        create_encoder("panns", checkpoint=tmp_path / "x.pth", sample_rate=32000)


def test_a_table_of_positions_that_no_grid_of_128_bins_has(tmp_path, tiny):
    state = tiny("ast").state_dict()
    state["v.pos_embed"] = torch.zeros(1, 2 + 5 * 101, 96) # of 64 mel bins at stride 10
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="x.pth.*128 mel bins.*505"):
        create_encoder("ast", checkpoint=tmp_path / "x.pth")


def test_ast_of_another_length_keeps_it(tmp_path, tiny):
    torch.save(tiny("ast", stride=10, clip_seconds=3.0).state_dict(), tmp_path / "x.pth")
    encoder = create_encoder("ast", checkpoint=tmp_path / "x.pth")
    assert encoder.v.grid == tiny("ast", stride=10, clip_seconds=3.0).v.grid
    assert 2.9 < encoder.clip_seconds < 3.2


# --- a folder of Hugging Face -------------------------------------------------------------------------------
def names_of_audioset(ontology):
    return [ontology.name(mid) for mid in ontology.mids]


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory, ontology):
    """A small AST that transformers saved, its classes in another order; and the model."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    order = torch.randperm(527, generator=torch.Generator().manual_seed(1)).tolist()
    names = names_of_audioset(ontology)
    config = transformers.ASTConfig(
        hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=192, max_length=256,
        layer_norm_eps=1e-6, id2label={i: names[k] for i, k in enumerate(order)})
    model = transformers.ASTForAudioClassification(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    folder = tmp_path_factory.mktemp("hugging_face")
    model.save_pretrained(folder)
    return folder, model, order


PREPROCESSOR = {
    "do_normalize": True, "feature_extractor_type": "ASTFeatureExtractor", "max_length": 256, "mean": -6.5,
    "num_mel_bins": 128, "sampling_rate": 16000, "std": 4.0,
}


def folder_with(hugging_face, tmp_path, preprocessor=None, config=None):
    """A copy of the folder, with changes in its two files; None leaves the file as it is."""
    shutil.copytree(hugging_face[0], tmp_path, dirs_exist_ok=True)
    if preprocessor is not None:
        text = json.dumps(PREPROCESSOR | preprocessor)
        (tmp_path / "preprocessor_config.json").write_text(text)
    if config is not None:
        written = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(written | config))
    return tmp_path


def test_classes_come_in_audiosets_order(hugging_face, noise):
    folder, model, order = hugging_face
    for path in (folder, folder / "model.safetensors"):
        encoder = create_encoder("ast", checkpoint=path)
        x = encoder.log_mel(noise(2, 16000))
        with torch.no_grad():
            theirs = model(input_values=x.mT).logits
            ours = encoder.logits(encoder.hidden(x))
        assert torch.allclose(ours[:, order], theirs, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("labels, message", [
    ({"3": "Gaspp"}, "config.json.*'Gaspp'.*Did you mean 'Gasp'"),
    ({"3": "Speech", "4": "Speech"}, "both 'Speech'"),
])
def test_classes_that_are_not_audiosets_are_refused(labels, message, hugging_face, tmp_path):
    named = json.loads((hugging_face[0] / "config.json").read_text())["id2label"]
    folder = folder_with(hugging_face, tmp_path, config={"id2label": named | labels})
    with pytest.raises(CheckpointError, match=message):
        create_encoder("ast", checkpoint=folder)


def test_ids_stand_for_names_and_numbered_labels_warn(hugging_face, tmp_path, ontology, noise):
    folder, _, order = hugging_face
    known = create_encoder("ast", checkpoint=folder)
    mids = {i: ontology.mids[k] for i, k in enumerate(order)}
    by_id = create_encoder("ast", checkpoint=folder_with(hugging_face, tmp_path, config={"id2label": mids}))
    assert torch.equal(by_id(noise(1, 16000)), known(noise(1, 16000)))
    numbered = folder_with(hugging_face, tmp_path, config={"id2label": {i: f"LABEL_{i}" for i in range(527)}})
    with pytest.warns(UserWarning, match="names no classes"):
        create_encoder("ast", checkpoint=numbered)


def test_the_folders_normalisation_is_used(hugging_face, tmp_path, noise):
    transformers = pytest.importorskip("transformers")
    folder = folder_with(hugging_face, tmp_path, {})
    encoder = create_encoder("ast", checkpoint=folder)
    assert encoder.clip_seconds == 2.5 and (encoder.front_end.mean, encoder.front_end.scale) == (-6.5, 8.0)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folder)
    wave = noise(2, 16000)
    wave = wave - wave.mean()
    theirs = extractor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    assert torch.allclose(encoder.log_mel(wave).mT, theirs, atol=2e-3)
    plain = create_encoder("ast", checkpoint=folder_with(hugging_face, tmp_path, {"do_normalize": False}))
    assert (plain.front_end.mean, plain.front_end.scale) == (0.0, 1.0)


@pytest.mark.parametrize("preprocessor, config, message", [
    ({"sampling_rate": 32000}, None, "sampling_rate.*32000.*16000"),
    ({"num_mel_bins": 64}, None, "num_mel_bins.*64.*128"),
    ({"max_length": 512}, None, "max_length.*512.*256"),
    (None, {"num_mel_bins": 64}, "num_mel_bins.*64.*128"),
    (None, {"frequency_stride": 12}, "frequency_stride.*12.*time_stride.*10"),
    (None, {"patch_size": 8}, "patch_size.*8.*16"),
    (None, {"max_length": 1024}, "max_length.*1024"),
])
def test_a_folder_that_contradicts_itself(preprocessor, config, message, hugging_face, tmp_path):
    folder = folder_with(hugging_face, tmp_path, preprocessor, config)
    with pytest.raises(CheckpointError, match=message):
        create_encoder("ast", checkpoint=folder)


def test_a_broken_config_names_its_path(hugging_face, tmp_path):
    folder = folder_with(hugging_face, tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=f"{folder}/config.json"):
        create_encoder("ast", checkpoint=folder)


# --- how long a clip an encoder takes -----------------------------------------------------------------------
@pytest.mark.parametrize("name", ["ast", "psla", "passt"])
def test_a_run_of_clips_that_would_be_cut_is_refused(name, tmp_path, tiny):
    torch.save(tiny(name, clip_seconds=10).state_dict(), tmp_path / "x.pth")
    values = dict(encoder=name, size="base", checkpoint=str(tmp_path / "x.pth"))
    make_encoder(make_config("smoke", clip_seconds=10.0, **values))
    with pytest.raises(ValueError, match="10 s.*30 s.*clip_seconds=10") as error:
        make_encoder(make_config("smoke", clip_seconds=30.0, **values))
    assert "encoder_options='clip_seconds=30'" in str(error.value)
    stretched = make_config("smoke", clip_seconds=30.0, encoder_options="clip_seconds=30", **values)
    assert make_encoder(stretched).clip_seconds == 30


@pytest.mark.parametrize("name", ["mn", "panns", "htsat"])
def test_an_encoder_that_cuts_nothing_takes_any_length(name, tmp_path, tiny):
    torch.save(tiny(name).state_dict(), tmp_path / "x.pth")
    values = dict(encoder=name, size="base", checkpoint=str(tmp_path / "x.pth"))
    assert make_encoder(make_config("smoke", clip_seconds=30.0, **values)).max_samples is None


@pytest.mark.parametrize("name", ["ast", "psla", "passt"])
def test_the_longest_clip_is_to_the_sample(name, tiny, noise):
    encoder = tiny(name, clip_seconds=1)
    longest = encoder.max_samples
    wave = noise(3, encoder.sample_rate)[:, :longest + 4000]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(wave[:, :longest])
    with pytest.warns(UserWarning, match=f"{name} reads the first"):
        encoder(wave)


def test_a_safetensors_file_whose_header_has_a_length_that_begins_as_a_pickle(tmp_path):
    """One file in 256: the first byte is that of a pickle."""
    path = tmp_path / "model.safetensors"
    for n in range(300):
        safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"x": "y" * n})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert list(read_checkpoint(path)) == ["a"]
