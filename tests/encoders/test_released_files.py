"""The table of released files; finding, reading and fitting them; other packagings, against transformers."""
import collections
import inspect
import pickle
import re
import threading
from dataclasses import replace
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import numpy as np
import pytest
import torch

from spa_lib.encoders import (
    CHECKPOINTS,
    CheckpointError,
    Released,
    create_encoder,
    encoder_class,
    encoder_names,
    load_official,
    read_checkpoint,
)
from spa_lib.encoders.checkpoints import read_table

NAMES = encoder_names("waveform")


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_encoder_comes_back_by_its_shapes(name, tmp_path, tiny, noise):
    encoder = tiny(name, clip_seconds=10)
    torch.save({"module." + k: v for k, v in encoder.state_dict().items()}, tmp_path / "x.pth")
    again, wave = create_encoder(name, checkpoint=tmp_path / "x.pth"), noise(2, encoder.sample_rate)
    assert torch.equal(again(wave), encoder(wave)) and len(again.checkpoint["sha256"]) == 64


@pytest.mark.parametrize("name, stride, positions", [
    ("ast", 12, 850), ("ast", 14, 657), ("ast", 16, 512), ("passt", 16, 62),
])
def test_other_strides_are_read_off_the_position_tables(name, stride, positions, tmp_path, tiny, noise):
    encoder = tiny(name, stride=stride)
    table = encoder.state_dict()["v.pos_embed" if name == "ast" else "time_new_pos_embed"]
    assert (table.shape[1] - 2 if name == "ast" else table.shape[3]) == positions
    torch.save(encoder.state_dict(), tmp_path / "x.pth")
    wave = noise(1, encoder.sample_rate)
    assert torch.equal(create_encoder(name, checkpoint=tmp_path / "x.pth")(wave), encoder(wave))


def test_ast_positions_at_other_lengths(tmp_path, tiny, noise):
    encoder = tiny("ast", stride=10)
    torch.save(encoder.state_dict(), tmp_path / "x.pth")
    table = encoder.v.pos_embed[0, 2:].view(12, 101, -1)
    shorter = create_encoder("ast", checkpoint=tmp_path / "x.pth", clip_seconds=5)
    assert shorter.v.grid == (12, 50)
    assert torch.equal(shorter.v.pos_embed[0, 2:].view(12, 50, -1), table[:, 25:75]) # from the middle
    longer = create_encoder("ast", checkpoint=tmp_path / "x.pth", clip_seconds=20)
    assert longer.v.grid == (12, 204) and torch.equal(longer.v.pos_embed[:, :2], encoder.v.pos_embed[:, :2])
    assert longer(noise(20, 16000)).shape == (1, 527)


def test_passt_uses_the_first_columns_and_cuts_what_is_too_long(tiny, noise):
    encoder = tiny("passt", stride=10)
    wave = noise(12, 32000)
    with torch.no_grad(), pytest.warns(UserWarning, match="reads the first 10.05 s"):
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


def replace_all(state):
    state.clear()
    state["net.w"] = torch.zeros(1)


HEAD_OF_50 = {"mlp_head.1.weight": torch.zeros(50, 96), "mlp_head.1.bias": torch.zeros(50)}
WIDER_NORM = {"v.norm.weight": torch.zeros(192)}


@pytest.mark.parametrize("change, cause, listed", [
    (lambda s: drop("mlp_head.1", s), "head is missing", "2 missing: mlp_head.1.weight"),
    (lambda s: s.update(HEAD_OF_50), "another data set", r"instead of \(527, 96\)"),
    (lambda s: drop("v.blocks.1.mlp.", s), "incomplete", "4 missing"),
    (lambda s: s.update(WIDER_NORM), "another size", r"v.norm.weight \(192,\) instead of \(96,\)"),
    (lambda s: s.update({"extra.weight": torch.zeros(1)}), "variant", "1 unexpected: extra.weight"),
    (replace_all, "unknown prefix", "missing"),
])
def test_the_report_of_a_file_that_does_not_fit(change, cause, listed, tmp_path, tiny):
    torch.save(broken(tiny("ast"), change), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=cause) as error:
        create_encoder("ast", size="tiny", checkpoint=tmp_path / "x.pth")
    assert re.search(listed, str(error.value)) and isinstance(error.value, ValueError)


@pytest.mark.parametrize("theirs", NAMES)
def test_another_encoders_file_is_recognised(theirs, tmp_path, tiny):
    mine = "ast" if theirs != "ast" else "passt"
    torch.save(tiny(theirs).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"{theirs}'s keys"):
        create_encoder(mine, checkpoint=tmp_path / "x.pth")


class Callback: # as a training framework would leave it in a file
    def __init__(self):
        self.best = 0.5


class Evil:
    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({Evil.path!r}).touch()",)


def test_a_file_runs_nothing(tmp_path):
    state = {"sed_model.w": torch.ones(2), "sed_model.n": torch.tensor(3.0)}
    content = {"state_dict": state, "callbacks": {Callback: Callback()}, "sampler": np.arange(3)}
    content["counts"] = collections.Counter("ab")
    torch.save(content, tmp_path / "x.ckpt")
    assert list(read_checkpoint(tmp_path / "x.ckpt")) == ["w", "n"]
    torch.save(content, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(tmp_path / "old.ckpt")["w"], torch.ones(2))
    Evil.path = str(tmp_path / "ran")
    torch.save({"model": state, "x": Evil()}, tmp_path / "evil.pth")
    try:
        read_checkpoint(tmp_path / "evil.pth")
    except CheckpointError:
        pass
    assert not (tmp_path / "ran").exists()


def test_floats_for_counters_and_missing_counters_are_taken(tmp_path, tiny):
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


def test_a_name_is_downloaded_once_and_its_digest_recorded(tmp_path, monkeypatch, tiny):
    torch.save(tiny("mn").state_dict(), tmp_path / "mn04_as_mAP_432.pt")
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    row = CHECKPOINTS["mn04_as"]
    url = f"http://127.0.0.1:{server.server_port}/{row.file}"
    monkeypatch.setitem(CHECKPOINTS, "mn04_as", replace(row, url=url, sha256=None, bytes=None))
    for _ in range(2):
        encoder = create_encoder("mn", checkpoint="mn04_as")
    server.shutdown()
    assert len(asked) == 1 and encoder.checkpoint["name"] == "mn04_as" and encoder.width == 0.2
    assert encoder.checkpoint["path"].endswith("checkpoints/mn/mn04_as.pt")


def test_the_table_holds_every_released_file():
    assert len(CHECKPOINTS) == 30
    counts = collections.Counter(row.encoder for row in CHECKPOINTS.values())
    assert counts == {"mn": 16, "ast": 2, "passt": 8, "panns": 1, "psla": 2, "htsat": 1}
    assert len({row.url for row in CHECKPOINTS.values()}) == 30
    assert {name for name, row in CHECKPOINTS.items() if row.sha256} == {"mn04_as"}
    options = {name: row.options for name, row in CHECKPOINTS.items() if row.options}
    assert options == {
        "mn10_as_hop_5": {"hop": 160}, "mn10_as_hop_15": {"hop": 480}, "mn10_as_hop_20": {"hop": 640},
        "mn10_as_hop_25": {"hop": 800}, "mn10_as_mels_40": {"n_mels": 40}, "mn10_as_mels_64": {"n_mels": 64},
        "mn10_as_mels_256": {"n_mels": 256},
        "passt-s-f128-stfthop100-p16-s10-ap.473-swa": {"hop": 100, "clip_seconds": 10},
        "passt-s-f128-stfthop160-p16-s10-ap.473-swa": {"hop": 160, "clip_seconds": 10},
    }


def test_rows_of_the_table():
    releases = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
    assert CHECKPOINTS["mn04_as"] == Released(
        encoder="mn", url=releases + "mn04_as_mAP_432.pt", licence="MIT", front_end="32 kHz, 128 mel",
        mAP=43.2, file="mn04_as_mAP_432.pt", bytes=4_066_513,
        sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c")
    assert CHECKPOINTS["mn10_as_hop_5"] == Released(
        encoder="mn", url=releases + "mn10_as_hop_5_mAP_475.pt", licence="MIT", mAP=47.5,
        front_end="32 kHz, 128 mel, hop 160", file="mn10_as_hop_5_mAP_475.pt", options={"hop": 160})
    assert CHECKPOINTS["mn10_as_mels_64"].front_end == "32 kHz, 64 mel"
    assert CHECKPOINTS["Cnn14"] == Released(
        encoder="panns", licence="CC-BY-4.0 (record), MIT (code)", front_end="32 kHz, 64 mel", mAP=43.1,
        url="https://zenodo.org/record/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
        file="Cnn14_mAP=0.431.pth")
    passt = "https://github.com/kkoutini/PaSST/releases/download/" # four releases
    urls = {name: row.url for name, row in CHECKPOINTS.items()}
    for name, release in (("-p16-s10-ap.476-swa", "v0.0.1-audioset"), ("-p16-s10-ap.472", "v0.0.2-audioset"),
                          ("-30sec-p16-s10-ap.473-swa", "v0.0.5")):
        file = f"passt-s-f128{name}"
        assert urls[file] == f"{passt}{release}/{file}.pt"
    assert urls["passt-s-kd-ap.486"] == f"{passt}v.0.0.9/passt-s-kd-ap.486.pt"
    assert CHECKPOINTS["HTSAT_AudioSet_Saved_1"].file == "HTSAT_AudioSet_Saved_1.ckpt"
    assert CHECKPOINTS["MIT/ast-finetuned-audioset-10-10-0.4593"].file == "model.safetensors"


def test_the_table_is_in_the_package():
    from importlib.resources import files

    text = (files("spa_lib") / "assets" / "checkpoints.csv").read_text(encoding="utf-8")
    assert read_table(text) == CHECKPOINTS
    assert all(row.url in text for row in CHECKPOINTS.values())


def test_the_checkpoint_table():
    for name, row in CHECKPOINTS.items():
        assert row.encoder in NAMES and row.url.startswith("https://") and 25 < row.mAP < 50
        assert row.licence and row.front_end and row.file
        parameters = inspect.signature(encoder_class(row.encoder)).parameters
        assert all(o in parameters for o in row.options), name
    with pytest.raises(OSError, match="by hand"):
        create_encoder("htsat", checkpoint="HTSAT_AudioSet_Saved_1")
    with pytest.raises(ValueError, match="mn04_as"):
        create_encoder("mn", checkpoint="mn04as")
    with pytest.raises(FileNotFoundError, match="mn04_as' downloads"):
        create_encoder("mn", checkpoint="nowhere/mn04_as_mAP_432.pt")


@pytest.mark.parametrize("name", ["panns", "htsat"])
def test_a_released_file_of_64_bins_refuses_the_papers_front_end(name, tmp_path, tiny):
    torch.save(tiny(name).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="64 mel bins"):
        create_encoder(name, checkpoint=tmp_path / "x.pth", front_end="paper")


# --- transformers as an oracle ------------------------------------------------------------------------------
def hugging_face_ast():
    from transformers import ASTConfig, ASTForAudioClassification

    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384,
        frequency_stride=10, time_stride=10, max_length=1024, num_labels=527, layer_norm_eps=1e-6)
    model = ASTForAudioClassification(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


OLD_NAMES = (
    (".layers.", ".encoder.layer."),
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)


@pytest.mark.parametrize("form", ["folder", "safetensors", "old names"])
def test_ast_takes_the_hugging_face_form(form, tmp_path, noise):
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
        theirs = model(input_values=x.mT, output_hidden_states=True).logits
        ours = encoder.logits(encoder.hidden(x))
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


SWIN = (
    ("attention.self.relative_position_bias_table", "attn.relative_position_bias_table"),
    ("attention.output.dense", "attn.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("audio_encoder.", ""),
    ("batch_norm", "bn0"),
)


def test_htsat_against_the_audio_tower_of_clap(noise):
    transformers = pytest.importorskip("transformers")
    options = dict(dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8))
    config = transformers.ClapAudioConfig(
        spec_size=256, num_mel_bins=64, hidden_size=128, patch_embeds_hidden_size=16, depths=[2, 2, 2, 2],
        num_attention_heads=[1, 2, 4, 8], enable_fusion=False, hidden_dropout_prob=0.0, drop_path_rate=0.1,
        layer_norm_eps=1e-5)
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
