"""The class label encoder: prompts, CLIP's byte pairs, sizes, and checkpoints that do not fit."""
import importlib.util
from pathlib import Path

import pytest
import torch

from spa_lib.ontology import Ontology
from spa_lib.semanticac.model import count_parameters
from spa_lib.semanticac.text_tower import (
    PROMPTS,
    TextTower,
    clip_merges,
    learn_merges,
    load_clip,
    make_tower,
    prompted,
    tokenizer,
)

needs_clip = pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    reason="the optional package open_clip, which ships CLIP's vocabulary, is not installed",
)


def test_prompts_are_the_papers():
    assert PROMPTS == ("[LABEL]", "a clip of [LABEL]", "an audio clip of [LABEL]")
    assert prompted(["car_horn"], PROMPTS[0]) == ["car horn"]


@needs_clip
def test_clip_vocabulary_is_open_clips():
    """Ids of AudioSet's 632 names under open_clip's own tokenizer, which is loaded from its file alone."""
    pytest.importorskip("ftfy", reason="open_clip's tokenizer wants ftfy")
    folder = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", folder / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs, ours, ontology = module.SimpleTokenizer(), tokenizer("clip"), Ontology.audioset()
    assert len(clip_merges()) == 48894 and len(ours) == 49408 == theirs.vocab_size
    for text in prompted([ontology.name(node) for node in ontology.nodes]):
        assert ours(text)["input_ids"] == [49406, *theirs.encode(text), 49407], text


@needs_clip
def test_rn50_text_tower_has_clips_size():
    with torch.device("meta"):
        tower = TextTower("RN50", vocabulary="clip")
    attention, network, rest = 4 * (512 * 512 + 512), 2 * 4 * 512 * 512 + 5 * 512, 4 * 512
    embeddings, ends = 49408 * 512 + 77 * 512, 2 * 512 + 512 * 1024
    assert count_parameters(tower) == embeddings + 12 * (attention + network + rest) + ends == 63_690_240


def test_learned_merges_spell_every_word():
    ids = tokenizer("names")
    assert tokenizer("names") is ids and learn_merges(["ab ab"], 10) == (("a", "b</w>"),)
    for text in ("Dog", "zyzzyva ß 7!"):
        tokens = ids.convert_ids_to_tokens(ids(text)["input_ids"])
        assert tokens[0] == "<|startoftext|>" and tokens[-1] == "<|endoftext|>"
        assert "<|endoftext|>" not in tokens[:-1]


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
    other = {"token_embedding.weight": torch.zeros(3, 4), "ln_final.weight": torch.zeros(4)}
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not fit"):
        load_clip(TextTower(dim=8), tmp_path / "other.pt")
    torch.save({"visual.weight": torch.zeros(3)}, tmp_path / "image_half.pt")
    with pytest.raises(ValueError, match="no text tower"):
        load_clip(TextTower(dim=8), tmp_path / "image_half.pt")
    with pytest.raises(FileNotFoundError, match="openai"):
        load_clip(TextTower(dim=8), tmp_path / "nothing.pt")
    with pytest.raises(ValueError, match="RN50"):
        make_tower("minilm", checkpoint="openai")
