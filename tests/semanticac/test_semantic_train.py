"""One run of SemanticAC: its clips, exact resume, what it writes, and whether it learns."""
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from spa_lib.encoders import create_encoder
from spa_lib.runs import Trainer
from spa_lib.semanticac import train as module
from spa_lib.semanticac.config import find_semantic, read_semantic, semantic_config, semantic_name
from spa_lib.semanticac.model import is_correct
from spa_lib.semanticac.train import (
    accuracy,
    augment,
    change_speed,
    load_sides,
    make_map_encoder,
    make_system,
    make_trainer,
    recompute_norms,
    score_clips,
    train_semantic,
)


# --- clips and encoder -------------------------------------------------------------------------------------
def test_unseen_classes_are_not_learned(tmp_path):
    cfg = semantic_config("smoke", unseen=4, unseen_seed=1, root=str(tmp_path))
    data = load_sides(cfg, 32000)
    assert len(data.evaluated) == 4 and len(data.seen) == 6 and not set(data.seen) & set(data.evaluated)
    assert set(data.train.mids) == set(data.seen) and len(data.evaluate) == 4 * cfg.per_class


def test_a_clip_on_both_sides_is_refused_or_left_out(tmp_path):
    cfg = semantic_config("smoke", root=str(tmp_path))
    data = load_sides(cfg, 32000)
    learned, scored = data.train.table.iloc[3], data.evaluate.table.iloc[0]
    shutil.copy(scored.path, learned.path)
    with pytest.raises(ValueError, match=f"1 of {len(data.train)} training clips .*\n.*{learned.clip_id}"):
        load_sides(cfg, 32000)
    kept = load_sides(replace(cfg, on_leak="leave_out"), 32000)
    assert set(data.train.clip_ids) - set(kept.train.clip_ids) == {learned.clip_id}
    assert kept.evaluate.clip_ids == data.evaluate.clip_ids


def test_two_recordings_of_esc50_are_in_two_folds(shared):
    cfg = semantic_config("smoke", source="esc50", root=str(shared / "data" / "ESC-50-part"), eval_fold=4)
    with pytest.raises(ValueError, match="training clips are on the evaluation side too .*by recording"):
        load_sides(cfg, 32000)
    train = load_sides(replace(cfg, on_leak="leave_out"), 32000).train.table
    assert {p["problem"] for p in train.attrs["problems"]} == {"leak"}
    assert not set(train.recording) & {"209698", "234879"}


def test_noise_is_as_loud_as_asked_for():
    wave = torch.randn(64, 4000)
    torch.manual_seed(0)
    noisy = augment(wave, max_scale=1.0, noise_rate=1.0, snr=(20.0, 20.0))
    forward = (wave - noisy).square().sum(1) < (wave.flip(1) - noisy).square().sum(1)
    clean = torch.where(forward[:, None], wave, wave.flip(1))
    db = 10 * torch.log10(clean.square().mean(1) / (noisy - clean).square().mean(1))
    assert (db - 20).abs().max() < 0.5
    assert change_speed(torch.ones(10), 0.5, 0.0).tolist() == [1] * 5 + [0] * 5


def test_clips_that_a_checkpoint_would_cut_are_refused(tmp_path):
    torch.manual_seed(0)
    torch.save(create_encoder("ast", size="tiny", clip_seconds=1.0).state_dict(), tmp_path / "x.pth")
    values = dict(encoder="ast", size="base", checkpoint=str(tmp_path / "x.pth"))
    make_map_encoder(semantic_config("smoke", clip_seconds=1.0, **values))
    for longer in (dict(clip_seconds=2.0), dict(clip_seconds=1.0, train_rate=44100)):
        with pytest.raises(ValueError, match="made for 1.09 s"):
            make_map_encoder(semantic_config("smoke", **longer, **values))
    stretched = semantic_config("smoke", clip_seconds=2.0, encoder_options="clip_seconds=2", **values)
    assert make_map_encoder(stretched).encoder.clip_seconds == 2


def test_htsat_checkpoint_is_found_in_the_cache(tmp_path, monkeypatch):
    """The one checkpoint that has to be fetched by hand needs no flag once it lies in the cache."""
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    cfg = semantic_config("paper", size="tiny")
    with pytest.raises(OSError, match="by hand"):
        make_map_encoder(cfg)
    folder = tmp_path / "checkpoints" / "htsat"
    folder.mkdir(parents=True)
    state = create_encoder("htsat", size="tiny").state_dict()
    official = {"state_dict": {f"sed_model.{name}": value for name, value in state.items()}}
    torch.save(official, folder / "HTSAT_AudioSet_Saved_1.ckpt")
    assert make_map_encoder(cfg).checkpoint["name"] == "HTSAT_AudioSet_Saved_1.ckpt"


# --- runs --------------------------------------------------------------------------------------------------
def same(a, b):
    assert np.array_equal(a.scores, b.scores) and list(a.clip_ids) == list(b.clip_ids)
    x, y = ({k: v for k, v in run.metrics.items() if k != "train_seconds"} for run in (a, b))
    assert x == y
    assert a.log.drop(columns="seconds").equals(b.log.drop(columns="seconds"))


def test_run_folder_is_that_of_every_run(small, reference):
    names = {str(p.relative_to(reference.folder)) for p in reference.folder.rglob("*") if p.is_file()}
    assert names - {".lock"} == {"config.json", "log.csv", "metrics.json", "scores.npz", "checkpoint/last.pt"}
    m = reference.metrics
    assert {"accuracy", "per_class", "mAP", "OmAP", "clips_hash", "config_hash", "seed", "versions"} <= set(m)
    assert {"train_seconds", "parameters", "batch"} <= set(m)
    assert set(m["parameters"]) == {"similarity", "tower", "listen", "all"}
    assert len(m["OmAP"]["per_level"]) == 22 and m["chance"] == 0.1
    assert m["accuracy"]["low"] <= m["accuracy"]["value"] <= m["accuracy"]["high"]
    assert reference.scores.shape == (10, 10) and np.allclose(reference.scores.sum(1), 1, atol=1e-5)
    assert list(reference.log) == ["epoch", "loss", "scale", "seconds"]
    S = np.array(m["batch"]["S"])
    assert S.shape == (10, 10) and np.abs(S).max() <= 1
    assert find_semantic(reference.folder.parent)[0].config == small
    (reference.folder.parent / "x").mkdir()
    with pytest.raises(FileNotFoundError):
        read_semantic(reference.folder.parent / "x")


@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_inside_an_epoch_ends_with_the_same_numbers(small, reference, tmp_path, monkeypatch, stop_at):
    steps, real = [], Trainer.training_step

    def stopping(*args):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*args)

    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    monkeypatch.setattr(Trainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_semantic(small, tmp_path, progress=False)
    monkeypatch.setattr(Trainer, "training_step", real)
    same(reference, train_semantic(small, tmp_path, progress=False))


def test_finished_run_is_read_not_repeated(small, reference, monkeypatch):
    monkeypatch.setattr(module, "load_sides", lambda *args: pytest.fail("trained again"))
    same(reference, train_semantic(small, reference.folder.parent))


def test_state_of_another_run_is_refused(small, reference, tmp_path):
    other = replace(small, dim=16)
    folder = tmp_path / semantic_name(other) / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "last.pt").write_bytes((reference.folder / "checkpoint" / "last.pt").read_bytes())
    with pytest.raises(ValueError, match="another configuration"):
        train_semantic(other, tmp_path, progress=False)


def test_loss_that_is_not_finite_names_the_clips(small, tmp_path):
    encoder = make_map_encoder(small)
    data = load_sides(small, encoder.sample_rate)
    model = make_system(small, encoder, data)
    model.log_scale.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="synth-m-"):
        make_trainer(small, model, data.train, tmp_path, progress=False).fit()
    assert not (tmp_path / "checkpoint" / "last.pt").exists()


def test_every_parameter_is_trained_at_its_rate(small):
    """Encoder, text tower and the rest, in each of the systems; a clip that is left over is not a batch."""
    encoder = make_map_encoder(small)
    data = load_sides(small, encoder.sample_rate)
    rates = {"semanticac": [1e-3, 3e-4, 2e-3], "baseline": [1e-3, 2e-3], "spa": [1e-3, 2e-3]}
    for system, expected in rates.items():
        cfg = replace(small, system=system, head_learning_rate=2e-3, batch_size=13)
        model = make_system(cfg, encoder, data)
        task = module.SemanticTask(cfg, model)
        groups = task.parameter_groups()
        assert [group["lr"] for group in groups] == expected
        grouped = [p for group in groups for p in group["params"]]
        assert {id(p) for p in grouped} == {id(p) for p in model.parameters() if p.requires_grad}
        assert {id(p) for p in groups[0]["params"]} == {id(p) for p in encoder.parameters()}
    assert len(data.train) == 40 == 3 * 13 + 1
    assert make_trainer(cfg, model, data.train, "nowhere", progress=False).steps_of_epoch() == 3


@pytest.mark.parametrize("values", [
    dict(system="baseline"),
    dict(system="spa"),
    dict(freeze=True),
    dict(loss="apart", augment=True),
    dict(unseen=3, eval_fold=0),
    dict(train_rate=44100, eval_rate=32000, optimizer="sgd"),
    dict(system="spa", unseen=3, eval_fold=0, text_branch="contrastive"),
])
def test_every_kind_of_run_ends(values, tmp_path):
    run = train_semantic(semantic_config("smoke", **values), tmp_path, progress=False)
    assert np.isfinite(run.scores).all() and 0 <= run.metrics["accuracy"]["value"] <= 1
    assert run.metrics["n_classes"] == run.scores.shape[1] == (3 if values.get("unseen") else 10)


def test_learning_learns(tmp_path):
    """Training clips scored after training: far above chance on a small synthetic set."""
    cfg = semantic_config("smoke", epochs=16, head_learning_rate=3e-3)
    encoder = make_map_encoder(cfg)
    data = load_sides(cfg, encoder.sample_rate)
    model = make_system(cfg, encoder, data)
    make_trainer(cfg, model, data.train, tmp_path, progress=False).fit()
    recompute_norms(model, data.train)
    assert is_correct(data.train.targets, score_clips(model, data.train)).mean() > 0.4


def test_accuracy_by_hand():
    y, s = np.eye(2)[[0, 1, 1]], np.array([[.9, .1], [.8, .2], [.3, .7]])
    found = accuracy(y, s, {"/a": "dog", "/b": "rain"}, ["r1", "r2", "r3"], 0)
    assert found == dict(accuracy=dict(value=2 / 3), per_class=dict(dog=1.0, rain=0.5), chance=0.5)
