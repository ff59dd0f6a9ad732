"""One run: exact resume after a kill, early failure, and what a run folder promises."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from spa_lib import train as train_module
from spa_lib.data import clip_table, resolve_labels
from spa_lib.losses import total_loss
from spa_lib.model import SPAModel
from spa_lib.runs import (
    OPTIMIZERS,
    RECIPES,
    Trainer,
    config_hash,
    find_runs,
    make_config,
    paired_table,
    run_name,
    run_values,
)
from spa_lib.train import (
    both_sides,
    load_data,
    make_encoder,
    make_model,
    make_trainer,
    train,
    train_all,
)

SMALL = make_config("smoke", epochs=3, n_train=48, n_eval=32, bootstrap=20)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that is never killed."""
    return train(SMALL, tmp_path_factory.mktemp("never-killed"), progress=False)


def same(a, b):
    assert np.array_equal(a.scores, b.scores) and list(a.clip_ids) == list(b.clip_ids)
    assert {k: v for k, v in a.metrics.items() if k != "train_seconds"} == {
        k: v for k, v in b.metrics.items() if k != "train_seconds"
    }
    timeless = [c for c in a.log.columns if c != "seconds"]
    assert a.log[timeless].equals(b.log[timeless])


def test_run_folder_is_complete(reference):
    names = {str(p.relative_to(reference.folder)) for p in reference.folder.rglob("*") if p.is_file()}
    assert names == {"config.json", "log.csv", "metrics.json", "scores.npz", "checkpoint/last.pt",
                     "model.json", "model.safetensors"}
    assert {
        "mAP",
        "OmAP",
        "OmAP_binary",
        "clips_hash",
        "config_hash",
        "seed",
        "versions",
        "train_seconds",
    } <= set(reference.metrics)
    assert len(reference.metrics["OmAP"]["per_level"]) == 22
    assert (
        reference.metrics["mAP"]["low"]
        <= reference.metrics["mAP"]["value"]
        <= reference.metrics["mAP"]["high"]
    )
    assert len(reference.log) == SMALL.epochs and reference.log.loss.is_monotonic_decreasing


STATISTICS = {
    "text_cosine",
    "text_rank",
    "text_uniformity",
    "text_order",
    "audio_cosine",
    "audio_rank",
    "audio_uniformity",
    "alignment",
}


def test_statistics_of_every_epoch_and_of_both_ends(reference):
    """Of collapse: see spa_lib.metrics.embeddings."""
    assert STATISTICS <= set(reference.log.columns)
    assert reference.log[sorted(STATISTICS)].notna().all(axis=None)
    start, end = (reference.metrics["gauges"][k] for k in ("start", "end"))
    assert set(start) == set(end) and end["text_cosine"] == pytest.approx(reference.log.text_cosine.iloc[-1])


COLLAPSING = replace(
    make_config("smoke", n_train=16, n_eval=8, batch_size=8, clip_seconds=1.0, dim=16, bootstrap=0),
    epochs=40,
    alpha=1.0,
)


@pytest.mark.parametrize(
    "values, times",
    [({}, 1), (dict(alpha=0.0), 0), (dict(text_branch="centred"), 0)],
    ids=["trained", "without", "centred"],
)
def test_the_paper_s_branch_says_once_that_it_has_collapsed(tmp_path, values, times):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train(replace(COLLAPSING, **values), tmp_path, progress=False)
    about = [w for w in caught if "the label embeddings have collapsed" in str(w.message)]
    assert len(about) == times
    if times:
        end = run.metrics["gauges"]["end"]["text_cosine"]
        assert (
            end > train_module.COLLAPSED
            and f"is {end:.2f}" in str(about[0].message)
            and "text_branch='centred'" in str(about[0].message)
        )


def test_finished_run_is_read_not_repeated(reference, monkeypatch):
    monkeypatch.setattr(train_module, "load_data", lambda *a: pytest.fail("trained again"))
    same(reference, train(SMALL, reference.folder.parent))


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_stopped_inside_an_epoch_ends_with_the_same_numbers(reference, tmp_path, monkeypatch, stop_at):
    """State is saved after every step here, and the process stops between two steps."""
    steps, real = [], Trainer.training_step

    def stopping(*args):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*args)

    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    monkeypatch.setattr(Trainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, tmp_path, progress=False)
    monkeypatch.setattr(Trainer, "training_step", real)
    same(reference, train(SMALL, tmp_path, progress=False))


def test_killed_again_and_again_ends_with_the_same_numbers(reference, tmp_path):
    """SIGKILL from outside, a random moment after each state that was written."""
    script = (
        "import sys, json; from spa_lib.runs import RunConfig; from spa_lib.train import train; "
        "train(RunConfig(**json.loads(sys.argv[1])), sys.argv[2], progress=False)"
    )
    command = [sys.executable, "-c", script, json.dumps(asdict(SMALL)), str(tmp_path)]
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    state, rng, kills = tmp_path / run_name(SMALL) / "checkpoint" / "last.pt", np.random.default_rng(0), 0

    def written():
        try:
            return state.stat().st_mtime_ns
        except FileNotFoundError:  # between two renames
            return None

    for _ in range(SMALL.epochs - 1):
        before = written()
        process = subprocess.Popen(command, env=env, cwd=tmp_path)
        while process.poll() is None and written() in (None, before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills
    same(reference, train(SMALL, tmp_path, progress=False))


def test_state_of_another_run_is_refused(reference, tmp_path):
    other = replace(SMALL, dim=32)
    (tmp_path / run_name(other) / "checkpoint").mkdir(parents=True)
    (tmp_path / run_name(other) / "checkpoint" / "last.pt").write_bytes(
        (reference.folder / "checkpoint" / "last.pt").read_bytes()
    )
    with pytest.raises(ValueError, match="another configuration"):
        train(other, tmp_path, progress=False)


def test_loss_that_is_not_finite_names_the_clips(tmp_path):
    cfg = replace(SMALL, epochs=1)
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.c_a.bias.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match=data.train.clip_ids[0].split("-")[0]):
        make_trainer(cfg, model, data, tmp_path, progress=False).fit()
    assert not (tmp_path / "checkpoint" / "last.pt").exists()
    assert torch.equal(model.p_a.weight, before["p_a.weight"])


def test_both_arms_start_alike_and_see_the_same(tmp_path):
    """With one seed, the only difference between the variants is the loss."""
    configs = [replace(SMALL, alpha=a, epochs=0) for a in (0.0, 0.1)]
    encoders = [make_encoder(c) for c in configs]
    data = load_data(configs[0], encoders[0].sample_rate)
    states = [make_model(c, e, data.ontology).state_dict() for c, e in zip(configs, encoders)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    other = make_model(replace(SMALL, method="direct"), make_encoder(SMALL), data.ontology).state_dict()
    assert all(torch.equal(states[0][k], other[k]) for k in other if "T_hat" not in k)
    assert not torch.equal(
        make_model(replace(SMALL, seed=1), make_encoder(replace(SMALL, seed=1)), data.ontology).p_a.weight,
        states[0]["p_a.weight"],
    )


def test_the_text_encoder_never_trains(reference):
    state = torch.load(reference.folder / "checkpoint" / "last.pt", weights_only=True)
    encoder = make_encoder(SMALL)
    data = load_data(SMALL, encoder.sample_rate)
    start = make_model(SMALL, encoder, data.ontology).state_dict()
    assert torch.equal(state["model"]["text.T_hat"], start["text.T_hat"])
    assert not torch.equal(state["model"]["text.p_t.weight"], start["text.p_t.weight"])
    assert state["mids"] == list(data.ontology.mids)


def test_holdout_stays_on_the_training_side():
    cfg = replace(SMALL, holdout=0.3)
    rate = make_encoder(cfg).sample_rate
    data, whole = load_data(cfg, rate), load_data(SMALL, rate)
    train_ids, held = set(data.train.clip_ids), set(data.evaluate.clip_ids)
    assert held and not train_ids & held and (train_ids | held) <= set(whole.train.clip_ids)


@pytest.fixture
def sorted_table(ontology):
    """26 classes of 20 training and 4 evaluation clips, sorted by class, as one writes a csv by hand."""
    mids = ontology.mids[100:126]
    rows = [(split, mid, i) for split, n in (("train", 20), ("eval", 4)) for mid in mids for i in range(n)]
    ids = [f"{split}-{mid}-{i}" for split, mid, i in rows]
    table = clip_table(ids, ids, [[mid] for _, mid, _ in rows], [split for split, _, _ in rows])
    return table.assign(mids=resolve_labels(table, ontology, False)[0])


def classes(side):
    return {mid for mids in side.mids for mid in mids}


def test_a_part_of_a_csv_that_is_sorted_by_class_has_every_class(sorted_table):
    cfg = make_config("demo", source="csv", root="x", n_train=100, n_eval=52)
    train, evaluate = both_sides(cfg, sorted_table)
    assert (len(train), len(evaluate)) == (100, 52)
    assert len(classes(train)) == len(classes(evaluate)) == 26
    counts = train.mids.str[0].value_counts()
    assert counts.max() - counts.min() <= 1


def test_the_part_is_drawn_by_the_seed_and_whatever_the_order_of_the_rows(sorted_table):
    cfg = make_config("demo", source="csv", root="x", n_train=100, n_eval=52)
    drawn = [set(side.clip_id) for side in both_sides(cfg, sorted_table)]
    shuffled = sorted_table.sample(frac=1, random_state=0)
    assert [set(side.clip_id) for side in both_sides(cfg, shuffled)] == drawn
    train_, evaluate = (set(side.clip_id) for side in both_sides(replace(cfg, seed=1), sorted_table))
    assert train_ != drawn[0] and evaluate == drawn[1]  # runs of all seeds are scored on the same clips


@pytest.fixture
def leaking_csv(tmp_path):
    """A csv of four training and two evaluation clips: t1 has e0's recording, t2 has e1's content."""
    from scipy.io import wavfile
    rng = np.random.default_rng(0)
    for name in ("t0", "t1", "t2", "t3", "e0"):
        wavfile.write(tmp_path / f"{name}.wav", 16000, (3000 * rng.standard_normal(16000)).astype(np.int16))
    shutil.copy(tmp_path / "t2.wav", tmp_path / "e1.wav")
    rows = ["t0,train,r0", "t1,train,r1", "t2,train,r2", "t3,train,r3", "e0,eval,r1", "e1,eval,r4"]
    lines = [f"{row.split(',')[0]}.wav,{'Rain' if i % 2 else 'Bark'},{row}" for i, row in enumerate(rows)]
    (tmp_path / "clips.csv").write_text("path,labels,clip_id,split,recording\n" + "\n".join(lines) + "\n")
    return tmp_path / "clips.csv"


def test_clips_on_both_sides_are_refused_or_left_out(leaking_csv):
    cfg = make_config("smoke", source="csv", root=str(leaking_csv), n_train=0, n_eval=0)
    refusal = "2 of 4 training clips are on the evaluation side too (.|\n)*'t1' and 'e0'"
    with pytest.raises(ValueError, match=refusal):
        load_data(cfg, 16000)
    left_out = replace(cfg, on_leak="leave_out")
    data = load_data(left_out, 16000)
    assert (data.train.clip_ids, data.evaluate.clip_ids) == (["t0", "t3"], ["e0", "e1"])
    assert [(p["clip_id"], p["problem"]) for p in data.problems] == [("t1", "leak"), ("t2", "leak")]
    assert config_hash(left_out) == config_hash(cfg)


def test_training_learns(tmp_path):
    """A memorised handful of clips: far above chance on what was trained on."""
    cfg = replace(
        make_config("smoke", n_train=32, epochs=25, batch_size=8, mixup_rate=0.0, alpha=0.1, bootstrap=0),
        decay_from=0.8,
    )
    run = train(cfg, tmp_path, progress=False)
    assert run.log.loss.iloc[-1] < 0.5 * run.log.loss.iloc[0]


def test_bfloat16_ends_before_the_loss(tmp_path, monkeypatch):
    """E_t went into the loss as the text branch gave it."""
    seen = []

    def loss(logits, E_a, E_t, *rest, **named):
        seen.append((logits.dtype, E_a.dtype, E_t.dtype))
        return total_loss(logits, E_a, E_t, *rest, **named)

    monkeypatch.setattr("spa_lib.train.total_loss", loss)
    monkeypatch.setattr(SPAModel, "label_embeddings", lambda model: model.text().bfloat16())
    train(replace(SMALL, precision="bfloat16", alpha=0.1, epochs=1), tmp_path, progress=False)
    assert set(seen) == {(torch.float32,)*3}


PUBLISHED = {
    "weighted-with": dict(
        optimizer="adam",
        schedule="halving",
        warmup_steps=4,
        halve_from=1,
        halve_every=1,
        balanced=True,
        sampler="weighted-with",
    ),
    "class-turn": dict(
        optimizer="adam-amsgrad",
        schedule="steps",
        balanced=True,
        sampler="class-turn",
        epoch_clips=40,
        mixup_labels=False,
    ),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_stopped_run_of_a_published_recipe_ends_with_the_same_numbers(kind, tmp_path, monkeypatch):
    cfg, steps, real = (
        replace(SMALL, epochs=2, learning_rate=1e-2, **PUBLISHED[kind]),
        [],
        Trainer.training_step,
    )

    def stopping(*args):
        if len(steps) == 4:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*args)

    reference = train(cfg, tmp_path / "never-stopped", progress=False)
    monkeypatch.setattr(Trainer, "save_seconds", -1.0)
    monkeypatch.setattr(Trainer, "training_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(cfg, tmp_path, progress=False)
    monkeypatch.setattr(Trainer, "training_step", real)
    same(reference, train(cfg, tmp_path, progress=False))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step_of_each_optimizer(optimizer, tmp_path):
    """The step that torch's own optimizer makes, with the configuration's numbers, on a clone of the
    classifier's bias."""
    cfg = replace(
        SMALL,
        epochs=1,
        n_train=16,
        optimizer=optimizer,
        beta1=0.8,
        beta2=0.99,
        weight_decay=0.1,
        schedule="constant",
        clip_gradient=0.0,
        mixup_rate=0.0,
    )
    encoder = make_encoder(cfg)
    data = load_data(cfg, encoder.sample_rate)
    model = make_model(cfg, encoder, data.ontology)
    trainer = make_trainer(cfg, model, data, tmp_path, progress=False)
    model.c_a.bias.data.fill_(0.5)
    bias = torch.nn.Parameter(model.c_a.bias.detach().clone())
    trainer.fit()
    moments = dict(lr=cfg.head_learning_rate, betas=(0.8, 0.99), weight_decay=0.1)
    own = {
        "adamw": lambda: torch.optim.AdamW([bias], **moments),
        "adam": lambda: torch.optim.Adam([bias], **moments),
        "adam-amsgrad": lambda: torch.optim.Adam([bias], amsgrad=True, **moments),
        "sgd": lambda: torch.optim.SGD(
            [bias], lr=cfg.head_learning_rate, momentum=0.9, nesterov=True, weight_decay=0.1
        ),
    }[optimizer]()
    bias.grad = model.c_a.bias.grad.clone()
    own.step()
    assert torch.equal(bias, model.c_a.bias) and not torch.equal(bias, torch.full_like(bias, 0.5))
    assert ("max_exp_avg_sq" in trainer.optimizer.state[model.c_a.bias]) == (optimizer == "adam-amsgrad")


@pytest.mark.parametrize("encoder", RECIPES)
def test_a_smoke_run_by_each_published_recipe(encoder, tmp_path):
    sizes = dict(epochs=1, batch_size=8, epoch_clips=16, precision="float32")
    run = train(
        make_config(
            "smoke", encoder=encoder, n_train=24, n_eval=16, bootstrap=0, **run_values(encoder) | sizes
        ),
        tmp_path,
        progress=False,
    )
    assert np.isfinite(run.scores).all() and np.isfinite(run.log.loss).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_failed_run_does_not_stop_the_others(tmp_path, jobs):
    """With one job at a time, the first failure was the last thing that happened."""
    bad = replace(SMALL, source="csv", root=str(tmp_path / "nowhere.csv"))
    good = replace(SMALL, epochs=1, alpha=0.0)
    with pytest.raises(RuntimeError, match=f"1 of 2 runs failed: {run_name(bad)}: FileNotFoundError"):
        train_all([bad, good], tmp_path, jobs=jobs)
    assert find_runs(tmp_path)[0].folder.name == run_name(good)


def test_the_error_of_a_single_run_is_its_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv"):
        train_all([replace(SMALL, source="csv", root=str(tmp_path / "nowhere.csv"))], tmp_path)


def test_table_refuses_runs_on_different_clips(reference, tmp_path):
    other = train(replace(SMALL, alpha=0.0, epochs=1), tmp_path, progress=False)
    changed = replace(
        other, config=replace(SMALL, alpha=0.0), metrics=other.metrics | {"clips_hash": "different"}
    )
    with pytest.raises(ValueError, match="not scored on the same clips"):
        paired_table([reference, changed])


@pytest.mark.parametrize("seed", [0, 1])
def test_real_clips_give_a_real_run(shared, tmp_path, seed):
    """A few real AudioSet-labelled clips through a real AudioSet-trained tagger."""
    cfg = make_config(
        "real",
        encoder="mn",
        size="base",
        checkpoint=str(shared / "models" / "mn04_as_mAP_432.pt"),
        root=str(shared / "data" / "audioset_mini"),
        n_train=16,
        n_eval=16,
        clip_seconds=2.0,
        epochs=1,
        batch_size=8,
        bootstrap=0,
        seed=seed,
    )
    run = train(cfg, tmp_path, progress=False)
    untouched = train(replace(cfg, head="official", epochs=0, alpha=0.0), tmp_path)
    assert np.isfinite(run.scores).all() and untouched.metrics["mAP"]["value"] > 0.5
    assert len(untouched.metrics["checkpoint"]["sha256"]) == 64


@pytest.mark.parametrize("outside", ["none", "tf32", "ieee"])
def test_float32_is_float32_whatever_was_allowed_before_and_afterwards_it_is_as_it_was(outside):
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.backends.fp32_precision = outside # of all backends: torch's newer setting
        found = matmul.fp32_precision, conv.fp32_precision
        for precision, value in (("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")):
            with train_module.matrix_precision(make_config("smoke", precision=precision)):
                assert (matmul.fp32_precision, conv.fp32_precision) == (value, value)
                older = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
                assert older == (value == "tf32", value == "tf32")
            assert (matmul.fp32_precision, conv.fp32_precision) == found
    finally:
        torch.backends.fp32_precision = "none"
        matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_a_run_leaves_torch_s_precision_as_it_was(tmp_path):
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    train(make_config("smoke", n_train=8, n_eval=8, epochs=1, bootstrap=0), tmp_path, progress=False)
    assert matmul.fp32_precision == before
    torch.backends.fp32_precision = "tf32" # the run pinned nothing: torch's setting of all backends holds
    try:
        assert before != "none" or matmul.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = "none"
