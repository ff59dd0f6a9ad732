"""Names and hashes of runs that are kept, and configurations that are refused."""
from dataclasses import fields, replace

import pytest

from spa_lib.runs import config_hash
from spa_lib.semanticac.config import SemanticConfig, semantic_config, semantic_name
from spa_lib.semanticac.text_tower import PROMPTS


def test_names_of_runs_are_kept():
    """Folders of earlier runs go on being found."""
    real = semantic_config("real", checkpoint="there/mn04_as_mAP_432.pt")
    assert semantic_name(real) == "mn-base-esc10-fold1-semanticac-cscm-seed0-013d73432b"
    smoke = semantic_config("smoke", per_class=40, clip_seconds=2.0, bootstrap=1000, epochs=12, dim=256)
    assert semantic_name(smoke) == "mn-tiny-synth-fold1-semanticac-cscm-seed0-e168483b4b"


def test_where_it_ran_is_no_part_of_a_run():
    cfg = semantic_config("real")
    elsewhere = replace(cfg, root="x", download=True, device="cpu", workers=2, cache=False,
                        checkpoint="/a/b/mn04_as_mAP_432.pt")
    assert config_hash(cfg) == config_hash(elsewhere)
    assert config_hash(cfg) != config_hash(replace(cfg, prompt=PROMPTS[0]))


def test_recipe_of_the_paper_is_the_default():
    """Fields that both papers have, with this paper's values."""
    cfg = SemanticConfig()
    assert (cfg.schedule, cfg.gamma, cfg.weight_decay, cfg.batch_size) == ("exponential", 0.96, 5e-4, 16)
    assert (cfg.momentum, cfg.clip_gradient, cfg.mixup_rate) == (0.9, 0.0, 0.0)
    assert len({f.name for f in fields(SemanticConfig)}) == len(fields(SemanticConfig))


@pytest.mark.parametrize("wrong, hint", [
    (dict(simliarity="cscm"), "'similarity'"),
    (dict(tower=3), "str"),
    (dict(system="semantic"), "'semanticac'"),
    (dict(similarity="cscn"), "'cscm'"),
    (dict(batch_size=1), "at least 2"),
    (dict(freeze=True, augment=True), "once"),
    (dict(mixup_rate=0.5), "mixup_rate=0"),
    (dict(system="baseline", unseen=3), "name unseen classes"),
    (dict(system="spa", unseen=3, text_branch="whitened"), "none for unseen"),
])
def test_misspelt_is_refused(wrong, hint):
    with pytest.raises((ValueError, TypeError), match=hint):
        semantic_config(**wrong)
