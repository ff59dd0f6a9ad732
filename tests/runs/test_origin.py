"""A run is what its name says: its folder knows the clips and the checkpoint that it was made of."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import wavfile

from spa_lib.encoders import create_encoder
from spa_lib.runs import (
    Trainer,
    check_finished,
    check_made_of,
    checkpoint_made_of,
    find_runs,
    make_config,
    read_run,
    run_name,
    write_config,
)
from spa_lib.runs import folder as folder_module
from spa_lib.semanticac.config import semantic_config, semantic_name
from spa_lib.semanticac.train import train_semantic
from spa_lib.train import train


def corpus(folder, labels, seed, order=slice(None)):
    """A folder with clips.csv: six training and four evaluation clips of noise, half of each label."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = ["path,labels,split"]
    for i in range(10):
        wavfile.write(folder / f"{i}.wav", 32000, (3000 * rng.standard_normal(32000)).astype(np.int16))
        rows.append(f"{i}.wav,{labels[i % 2]},{'train' if i < 6 else 'eval'}")
    (folder / "clips.csv").write_text("\n".join([rows[0], *rows[1:][order]]) + "\n")
    return str(folder / "clips.csv")


def config(root, **values):
    start = dict(source="csv", root=root, n_train=0, n_eval=0, clip_seconds=1.0, batch_size=2, dim=16,
                 bootstrap=0, encoder="mn", epochs=2)
    return make_config("smoke", **start | values)


@pytest.fixture
def a_and_b(tmp_path):
    return (config(corpus(tmp_path / "A", ["Bark", "Rain"], 0)),
            config(corpus(tmp_path / "B", ["Meow", "Siren"], 1)))


def stop_after_one_epoch(monkeypatch):
    end_epoch = Trainer.end_epoch

    def end(trainer):
        end_epoch(trainer)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "end_epoch", end)


def begin(cfg, folder):
    """Begin a run and kill it after its first epoch."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after_one_epoch(patch)
        with pytest.raises(KeyboardInterrupt):
            train(cfg, folder, progress=False)


OTHER_CLIPS = r"of other training clips and other evaluation clips.*tag='...'"


def test_a_finished_run_on_other_clips_is_refused_and_has_a_name_of_its_own_with_a_tag(a_and_b, tmp_path):
    a, b = a_and_b
    assert run_name(a) == run_name(b)
    first = train(a, tmp_path / "runs", progress=False)
    with pytest.raises(ValueError, match=OTHER_CLIPS) as error:
        train(b, tmp_path / "runs", progress=False)
    assert first.folder.name in str(error.value) and a.root in str(error.value) and b.root in str(error.value)
    again = train(a, tmp_path / "runs", progress=False)
    assert np.array_equal(again.scores, first.scores)
    other = train(replace(b, tag="B"), tmp_path / "runs", progress=False)
    assert other.mids.tolist() != first.mids.tolist() and "-B-" in other.folder.name
    assert len(find_runs(tmp_path / "runs")) == 2


def test_a_run_that_was_killed_does_not_go_on_on_other_clips(a_and_b, tmp_path):
    a, b = a_and_b
    begin(a, tmp_path / "runs")
    write_config(tmp_path / "runs" / run_name(a), a)  # as a launcher of several processes does
    with pytest.raises(ValueError, match=OTHER_CLIPS):
        train(b, tmp_path / "runs", progress=False)
    resorted = corpus(tmp_path / "A", ["Bark", "Rain"], 0, slice(None, None, -1))
    with pytest.raises(ValueError, match="of another order of the training clips"):
        train(a, tmp_path / "runs", progress=False)
    assert resorted == corpus(tmp_path / "A", ["Bark", "Rain"], 0)
    assert len(train(a, tmp_path / "runs", progress=False).log) == 2


def test_two_checkpoints_of_one_file_name_are_two_runs(a_and_b, tmp_path):
    cfgs = []
    for seed, name in enumerate("xy"):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        torch.save(create_encoder("mn", size="tiny").state_dict(), tmp_path / name / "best.pt")
        cfgs.append(replace(a_and_b[0], checkpoint=str(tmp_path / name / "best.pt"), epochs=0))
    assert run_name(cfgs[0]) == run_name(cfgs[1])
    train(cfgs[0], tmp_path / "runs", progress=False)
    with pytest.raises(ValueError, match="of another checkpoint.*tag='...'"):
        train(cfgs[1], tmp_path / "runs", progress=False)
    shutil.copy(cfgs[0].checkpoint, cfgs[1].checkpoint)
    train(cfgs[1], tmp_path / "runs", progress=False)


def test_a_finished_run_is_read_where_its_clips_are_not(a_and_b, tmp_path, caplog):
    first = train(a_and_b[0], tmp_path / "runs", progress=False)
    shutil.rmtree(tmp_path / "A")
    again = train(a_and_b[0], tmp_path / "runs", progress=False)
    assert np.array_equal(again.scores, first.scores) and "cannot be compared" in caplog.text


def as_before(folder):
    """A run folder as earlier versions wrote it."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    new = ("made_of", "local", "digest", "tag")
    path.write_text(json.dumps({name: value for name, value in values.items() if name not in new}))


def test_a_folder_from_before_is_read_and_goes_on_with_a_sentence(a_and_b, tmp_path, caplog):
    a, b = a_and_b
    folder = tmp_path / "runs" / run_name(a)
    begin(a, tmp_path / "runs")
    as_before(folder)
    run = train(a, tmp_path / "runs", progress=False)
    assert "begun before run folders said of which clips they are made" in caplog.text and len(run.log) == 2
    as_before(folder)
    assert np.array_equal(read_run(folder).scores, run.scores)
    assert np.array_equal(train(a, tmp_path / "runs", progress=False).scores, run.scores)
    with pytest.raises(ValueError, match=OTHER_CLIPS):  # metrics.json has the clip lists, too
        train(b, tmp_path / "runs", progress=False)


def test_a_default_that_changes_later_makes_no_folder_unreadable(make_run, tmp_path, monkeypatch):
    path = make_run(tmp_path)
    monkeypatch.setattr(folder_module, "config_hash", lambda cfg: "another")
    assert read_run(path).folder == path
    as_before(path)
    assert read_run(path).folder == path


def esc50(folder, categories):
    """A folder in ESC-50's layout: two folds of two clips of each category."""
    rng, rows = np.random.default_rng(0), []
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    for fold in (1, 2):
        for category in categories:
            for take in "AB":
                name = f"{fold}-{len(rows)}-{take}-0.wav"
                rows.append(dict(filename=name, fold=fold, category=category, esc10=True, src_file=len(rows)))
                wavfile.write(folder / "audio" / name, 32000, rng.integers(-9, 9, 32000).astype(np.int16))
    pd.DataFrame(rows).to_csv(folder / "meta" / "esc50.csv", index=False)
    return str(folder)


def test_semanticac_refuses_other_clips(tmp_path):
    a = semantic_config("smoke", source="esc50", root=esc50(tmp_path / "A", ["dog", "rain"]))
    b = replace(a, root=esc50(tmp_path / "B", ["cat", "siren"]))
    assert semantic_name(a) == semantic_name(b) != semantic_name(replace(a, tag="B"))
    first = train_semantic(a, tmp_path / "runs", progress=False)
    with pytest.raises(ValueError, match=OTHER_CLIPS):
        train_semantic(b, tmp_path / "runs", progress=False)
    assert np.array_equal(train_semantic(a, tmp_path / "runs", progress=False).scores, first.scores)


@pytest.mark.parametrize("tag", ["a b", "x/y", "-", "ä", ".."])
def test_a_tag_is_part_of_a_folder_s_name(tag):
    with pytest.raises(ValueError, match="tag"):
        make_config("smoke", tag=tag)
    assert run_name(make_config("smoke", tag="big.2")).split("-")[4] == "big.2"


def test_the_text_tower_s_file_is_known_by_what_it_holds(tmp_path):
    cfg = semantic_config("smoke", text_checkpoint=str(tmp_path / "tower.pt"))
    encoder, digests = create_encoder("mn", size="tiny"), []
    for content in (b"one", b"two"):
        (tmp_path / "tower.pt").write_bytes(content)
        digests.append(checkpoint_made_of(cfg, encoder))
    folder = tmp_path / "run"
    (folder / "checkpoint").mkdir(parents=True)
    write_config(folder, cfg, digests[0])
    check_made_of(folder, cfg, digests[0])
    with pytest.raises(ValueError, match="another checkpoint of the text tower"):
        check_made_of(folder, cfg, digests[1])
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match="another checkpoint of the text tower"):
        check_finished(folder, cfg, None)
