"""Runs with an encoder from transformers or from outside: trained, frozen, named, kept apart."""
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spa_lib.beyond import BRANCHES
from spa_lib.encoders import (
    CheckpointError,
    create_encoder,
    encoder_names,
    encoder_sizes,
    register_encoder,
)
from spa_lib.encoders.base import ENCODERS
from spa_lib.losses import spa_loss
from spa_lib.runs import (
    config_hash,
    encoder_of,
    identity,
    make_config,
    run_command,
    run_name,
    runs_table,
)
from spa_lib.tagger import Tagger, load_model
from spa_lib.train import train

FEW = dict(n_train=16, n_eval=16, clip_seconds=1.0, epochs=1, bootstrap=0)


def config(folder, **values):
    return make_config("smoke", encoder=f"hf:{folder}", **FEW | values)


def test_a_run_is_named_by_the_model(hf_folder, tmp_path):
    cfg = config(hf_folder("wav2vec2"))
    assert cfg.size == "base" and identity(cfg)["encoder"] == "hf:wav2vec2"
    assert run_name(cfg).startswith("hf_wav2vec2-base-synth-concat-seed0-")
    assert encoder_of(cfg) == "hf:wav2vec2 base"
    moved = replace(cfg, encoder="hf:/elsewhere/wav2vec2")
    assert run_name(moved) == run_name(cfg) and config_hash(moved) == config_hash(cfg)
    hub = config("MIT/ast-finetuned-audioset-10-10-0.4593", freeze=True, mixup_rate=0.0)
    assert run_name(hub).startswith("hf_MIT_ast-finetuned-audioset-10-10-0.4593-base-frozen-synth")
    assert run_name(hub) != run_name(replace(hub, encoder="hf:OTHER/ast-finetuned-audioset-10-10-0.4593"))


@pytest.mark.parametrize("name", ["a b/ü?*", "x"*250, "..", "a'b\"c"])
def test_any_folder_gives_a_name_that_a_folder_can_have(name, tmp_path):
    found = run_name(config(tmp_path / name))
    assert len(found) < 200 and found.isascii() and not set(found) & set(' /\\:*?"<>|\'')
    (tmp_path / found).mkdir()


def test_names_that_are_none():
    with pytest.raises(ValueError, match="unknown encoder 'hf:'"):
        make_config("smoke", encoder="hf:")
    with pytest.raises(ValueError, match="unknown encoder 'hg:MIT/ast'"):
        make_config("smoke", encoder="hg:MIT/ast")
    with pytest.raises(ValueError, match="unknown option of hf:MIT/ast 'n_mels'"):
        make_config("smoke", encoder="hf:MIT/ast", encoder_options="n_mels=64")


def test_a_run_trains_it_and_another_reads_it(hf_folder, tmp_path):
    cfg = config(hf_folder("wav2vec2"), epochs=2)
    run = train(cfg, tmp_path, progress=False)
    before = create_encoder(cfg.encoder).state_dict()
    after = torch.load(run.folder / "checkpoint" / "last.pt", weights_only=True)["model"]
    key = "tower.encoder.layers.0.attention.q_proj.weight"
    assert not torch.equal(after[f"encoder.{key}"], before[key])
    assert run.metrics["checkpoint"]["name"] == "wav2vec2" and len(run.metrics["checkpoint"]["sha256"]) == 64
    again = train(cfg, tmp_path, progress=False)
    assert np.array_equal(again.scores, run.scores)
    assert runs_table([run]).encoder.tolist() == ["hf:wav2vec2 base"]
    assert f"hf:{hf_folder('wav2vec2')}" in run_command(cfg, "smoke")


def test_two_folders_of_one_name_are_two_runs(hf_folder, tmp_path):
    other = shutil.copytree(hf_folder("wav2vec2"), tmp_path / "other" / "wav2vec2")
    cfg, moved = config(hf_folder("wav2vec2")), config(other)
    run = train(cfg, tmp_path / "runs", progress=False)
    assert train(moved, tmp_path / "runs", progress=False).folder == run.folder # the same model elsewhere
    numbers = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(numbers | dict(do_normalize=False)))
    with pytest.raises(ValueError, match="a run of another checkpoint .encoder is 'hf:.*tag="):
        train(moved, tmp_path / "runs", progress=False)
    tagged = train(replace(moved, tag="raw"), tmp_path / "runs", progress=False)
    assert tagged.folder != run.folder and not np.array_equal(tagged.scores, run.scores)
    shutil.rmtree(other) # a finished run is read without its model
    assert np.array_equal(train(moved, tmp_path / "runs", progress=False).scores, run.scores)


@pytest.mark.parametrize("freeze", [False, True])
def test_the_model_of_a_run_is_loaded_without_the_folder(freeze, hf_folder, tmp_path, noise):
    folder = shutil.copytree(hf_folder("wav2vec2"), tmp_path / "wav2vec2")
    run = train(config(folder, freeze=freeze, mixup_rate=0.0), tmp_path / "runs", progress=False)
    wave = noise(1, 16000, batch=2)
    before = create_encoder(f"hf:{folder}").embed(wave)
    shutil.rmtree(folder)
    loaded = load_model(run.folder).model.encoder
    again = create_encoder("hf:wav2vec2", checkpoint=run.folder / "model.safetensors")
    assert torch.equal(loaded.embed(wave), again.embed(wave))
    assert torch.allclose(before, again.embed(wave)) == freeze
    with pytest.raises(ValueError, match="leave checkpoint out, or give the model.safetensors of a run"):
        create_encoder("hf:hubert", checkpoint=run.folder / "model.safetensors")


@pytest.mark.parametrize("kind", ["ast", "clap", "hubert", "wavlm", "whisper"])
def test_a_frozen_run(kind, hf_folder, tmp_path):
    cfg = config(hf_folder(kind), freeze=True, mixup_rate=0.0)
    run = train(cfg, tmp_path, progress=False)
    assert run.scores.shape[0] == 16 and np.isfinite(run.scores).all()


def test_augment_and_length_are_refused_before_a_clip_is_read(hf_folder, tmp_path):
    with pytest.raises(ValueError, match="ASTModel has no augmentation of its own: set augment=False"):
        train(config(hf_folder("ast"), augment=True), tmp_path, progress=False)
    with pytest.raises(ValueError, match="hf:whisper was made for 2 s and would cut these clips of 5 s"):
        train(config(hf_folder("whisper"), clip_seconds=5.0), tmp_path, progress=False)


def test_embeddings_of_a_frozen_model_are_kept_for_the_next_process(hf_folder):
    script = f"""
import spa_lib
from spa_lib.data.dataset import module_digest
from spa_lib.encoders import create_encoder
print(module_digest(create_encoder("hf:{hf_folder('whisper')}")))
"""
    found = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
             for _ in range(2)}
    assert len(found) == 1


@pytest.mark.slow
def test_papermill_takes_a_folder(hf_folder, checkout):
    papermill = Path(sys.executable).parent / "papermill"
    words = ["nbs/04_train.ipynb", "-p", "encoder", f"hf:{hf_folder('wav2vec2')}", "-p", "scale", "smoke"]
    done = subprocess.run([papermill, *words], cwd=checkout, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-3000:]
    finished = sorted(p.parent.name for p in (checkout / "runs").glob("*/metrics.json"))
    assert [name.split("-seed")[0] for name in finished] == [
        "hf_wav2vec2-base-synth-concat", "hf_wav2vec2-base-synth-without"]


# --- from outside the package, and not of transformers ------------------------------------------------------
@pytest.fixture
def registry():
    """The register of encoders, put back after the test."""
    before = dict(ENCODERS)
    yield
    ENCODERS.clear()
    ENCODERS.update(before)


class Levels(torch.nn.Module):
    """A module with embed and embed_dim, and nothing else that an encoder here has."""
    embed_dim = 8

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain, self.map = gain, torch.nn.Linear(4, 8)

    def embed(self, wave, rate):
        assert rate == 16000
        level = wave.unfold(1, 400, 160).square().mean(2).clamp(min=1e-8).log()
        found = [level.mean(1), level.std(1), level.amax(1), level.amin(1)]
        return self.gain * self.map(torch.stack(found, 1))


def test_any_module_is_an_encoder(registry, tmp_path, noise):
    register_encoder("levels")(Levels)
    encoder = create_encoder("levels", gain=2.0)
    wave = noise(1, 16000, batch=3)
    assert encoder.embed(wave, 16000).shape == (3, 8) and encoder.options == dict(gain=2.0)
    assert "levels" in encoder_names() and encoder_sizes("levels") == {"base": {}}
    torch.save(encoder.network.state_dict(), tmp_path / "levels.pt")
    loaded = create_encoder("levels", checkpoint=tmp_path / "levels.pt", gain=2.0)
    assert torch.equal(loaded.embed(wave), encoder.embed(wave)) and loaded.checkpoint["name"] == "levels.pt"
    for freeze in (False, True):
        cfg = make_config("smoke", encoder="levels", encoder_options="gain=0.5", freeze=freeze,
                          mixup_rate=0.0, **FEW)
        run = train(cfg, tmp_path, progress=False)
        assert run.folder.name.startswith("levels-base-") and np.isfinite(run.scores).all()
        kept = create_encoder("levels", checkpoint=run.folder / "model.safetensors")
        assert torch.equal(load_model(run.folder).model.encoder.embed(wave), kept.embed(wave))
        assert kept.network.gain == 0.5


def test_a_function_that_makes_a_module_is_enough(registry):
    register_encoder("made")(lambda: Levels(3.0))
    assert create_encoder("made").network.gain == 3.0


def test_a_class_may_read_its_checkpoint_itself(registry, tmp_path, noise):
    class Reads(Levels):
        sample_rate = 22050
        sizes = {"base": {}, "large": dict(gain=5.0)}

        def __init__(self, checkpoint=None, gain=1.0):
            super().__init__(gain)
            self.read = checkpoint and Path(checkpoint).read_text()

    (tmp_path / "weights.xyz").write_text("all of it")
    register_encoder("reads")(Reads)
    encoder = create_encoder("reads", "large", checkpoint=tmp_path / "weights.xyz")
    assert encoder.network.read == "all of it" and encoder.network.gain == 5.0
    assert encoder.sample_rate == 22050 and len(encoder.checkpoint["sha256"]) == 64
    with pytest.raises(ValueError, match="takes 22050 Hz, the wave has 16000"):
        encoder.embed(noise(1, 16000), 16000)


def test_what_is_wrong_with_a_module_is_said(registry, tmp_path, noise):
    register_encoder("linear")(lambda: torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"linear is a Linear: an encoder is a torch module with embed\(wave"):
        create_encoder("linear")
    register_encoder("wide")(type("Wide", (Levels,), dict(embed_dim=9)))
    with pytest.raises(ValueError, match=r"embed of wide gave \[2, 8\], and must give .* \[2, 9\]"):
        create_encoder("wide").embed(noise(1, 16000, batch=2))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a checkpoint of wide"):
        create_encoder("wide", checkpoint=tmp_path / "other.pt")
    with pytest.raises(ValueError, match="wide has no augmentation of its own: set augment=False"):
        make_config("smoke", encoder="wide", augment=True)
    with pytest.raises(NotImplementedError, match="no head over AudioSet's classes"):
        create_encoder("wide")(noise(1, 16000))
    for name in ("a/b", "hf:x", "", "-a"):
        with pytest.raises(ValueError, match="part of the names of folders"):
            register_encoder(name)


def test_a_released_file_is_recognised_beside_modules_from_outside(registry, tmp_path):
    register_encoder("levels")(Levels)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="the tensors of no encoder that is known here"):
        Tagger.from_pretrained(tmp_path / "other.pt")


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_a_run_tags_alone_and_in_a_batch_alike(kind, hf_folder, tmp_path, noise):
    run = train(config(hf_folder(kind)), tmp_path, progress=False)
    tagger = Tagger.from_pretrained(run.folder, device="cpu")
    assert tagger.description["encoder"]["name"] == f"hf:{kind}"
    waves = [noise(seconds, 16000, seed=i)[0].numpy() for i, seconds in enumerate((0.5, 1, 3))]
    for wave in waves:
        whole = tagger.scores(wave, 16000)
        assert np.isfinite(whole).all() and whole.shape[1] == run.metrics["n_classes"]
    tagger.batch_size = 1
    np.testing.assert_allclose(tagger.scores(waves[2], 16000), whole, atol=1e-5)


def test_a_text_branch_without_T_hat_trains_and_says_what_it_lacks(monkeypatch, tmp_path):
    class Still(torch.nn.Module):
        def __init__(self, T_hat, dim):
            super().__init__()
            self.register_buffer("E_t", torch.eye(len(T_hat), dim))

        def forward(self):
            return self.E_t

        def align(self, E_a, E_t, y, c_a):
            return spa_loss(E_a, E_t, y)

    monkeypatch.setitem(BRANCHES, "still", Still)
    run = train(make_config("smoke", text_branch="still", **FEW), tmp_path, progress=False)
    with pytest.raises(CheckpointError, match="'still' of this model keeps no T_hat"):
        load_model(run.folder)
