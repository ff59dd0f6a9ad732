"""Published recipes: schedules, samplers, optimizers, and the configurations that they resolve to."""

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spa_lib.encoders import CHECKPOINTS
from spa_lib.runs import (
    FACTS,
    OPTIMIZERS,
    RECIPES,
    SAMPLERS,
    SCALES,
    SCHEDULES,
    Recipe,
    RunConfig,
    class_turn,
    config_hash,
    epoch_order,
    halving_factor,
    make_config,
    make_optimizer,
    mixup,
    rate_factor,
    run_name,
    run_values,
    schedule_factor,
)

PAPER_FIVE = ("psla", "panns", "ast", "passt", "htsat")


def test_older_runs_keep_their_names():
    """Computed before optimizers, schedules and samplers became fields."""
    assert (
        run_name(make_config("real", encoder="mn", alpha=0.0)) == "mn-tiny-audioset-without-seed0-b48095146f"
    )
    assert run_name(RunConfig()) == "ast-tiny-synth-concat-seed0-44136fa355"
    assert (
        run_name(make_config("smoke", encoder="htsat", seed=3, balanced=True, epoch_clips=32))
        == "htsat-tiny-synth-concat-seed3-1b3599ca62"
    )
    assert (
        run_name(make_config("paper", encoder="passt", alpha=0.1, checkpoint=""))
        == "passt-base-audioset-concat-seed0-0f88135ee3"
    )


# ---- the table


def test_recipes_are_fields_of_a_run():
    names = {f.name for f in fields(RunConfig)}
    assert {f.name for f in fields(Recipe)} - set(FACTS) <= names
    assert set(RECIPES) == {*PAPER_FIVE, "mn"}
    for name, r in RECIPES.items():
        assert set(run_values(name)) <= names and r.source and r.start
        assert r.schedule in SCHEDULES and r.optimizer in OPTIMIZERS and (r.sampler in SAMPLERS) == r.balanced
        assert ("weight averaging" in r.left_out) == (r.averaging != "none")
        used = dict(
            passt={"warmup_epochs", "decay_from", "decay_to", "final_rate"},
            halving={"warmup_steps", "halve_from", "halve_every"},
        ).get(r.schedule, set())
        assert {
            k
            for k in (
                "warmup_epochs",
                "decay_from",
                "decay_to",
                "final_rate",
                "warmup_steps",
                "halve_from",
                "halve_every",
            )
            if getattr(r, k) is not None
        } == used


@pytest.mark.parametrize("encoder", RECIPES)
def test_published_scale_is_the_encoders_own(encoder):
    cfg, r = make_config("published", encoder=encoder), RECIPES[encoder]
    assert cfg.encoder == encoder and cfg.size == "base" and cfg.augment and cfg.clip_seconds == 10
    assert all(getattr(cfg, k) == v for k, v in asdict(r).items() if k not in FACTS and v is not None)
    assert cfg.head_learning_rate == r.learning_rate
    assert make_config("published", encoder=encoder, epochs=2).epochs == 2


@pytest.mark.parametrize("encoder", RECIPES)
def test_paper_scale_is_passts_for_every_encoder(encoder):
    cfg = make_config("paper", encoder=encoder, checkpoint="")
    assert cfg.checkpoint is None and replace(cfg, encoder="passt") == make_config(
        "published", encoder="passt"
    )
    assert (config_hash(cfg) == config_hash(make_config("published", encoder=encoder))) == (
        encoder == "passt"
    )


@pytest.mark.parametrize("encoder", RECIPES)
def test_paper_scale_fine_tunes_a_release(encoder):
    """Of the very encoder; a size that has no release starts from scratch, and a file that is named goes
    before."""
    cfg = make_config("paper", encoder=encoder)
    assert CHECKPOINTS[cfg.checkpoint].encoder == encoder
    assert make_config("paper", encoder=encoder, size="tiny").checkpoint is None
    assert make_config("paper", encoder=encoder, checkpoint="mine.pt").checkpoint == "mine.pt"


def test_no_number_stands_twice():
    assert not set(SCALES["published"]) & set(run_values("passt"))


@pytest.mark.parametrize(
    "wrong, hint",
    [
        (dict(optimizer="adamax"), "unknown optimizer"),
        (dict(schedule="half"), "'halving'"),
        (dict(sampler="weighted"), "unknown sampler"),
        (dict(sampler="class-turn"), "balanced=True"),
        (dict(beta1=1.0), "less than 1"),
        (dict(beta2=-0.1), "beta2 must be at least 0"),
        (dict(schedule="halving", halve_every=0), "halve_every must be at least 1"),
        (dict(balanced=True), "epoch_clips"),
    ],
)
def test_what_cannot_be_is_refused(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        make_config("demo", **wrong)


def test_published_scale_needs_a_known_encoder():
    with pytest.raises(ValueError, match="'ast'"):
        make_config("published", encoder="astt")


# ---- schedules


def test_learning_rate_shape():
    shape = dict(epochs=130, warmup_epochs=5, decay_from=50 / 130, decay_to=100 / 130, final_rate=0.01)
    assert rate_factor(0, **shape) == pytest.approx(np.exp(-5 * 0.9**2))
    assert rate_factor(2.5, **shape) == pytest.approx(np.exp(-5 * 0.5**2)) and rate_factor(30, **shape) == 1
    values = [rate_factor(e, **shape) for e in np.linspace(50, 100, 50)]
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "encoder, points",
    [
        (
            "passt",
            {
                0: 2e-5 * np.exp(-5 * 0.9**2),
                2.5: 2e-5 * np.exp(-5 * 0.25),
                5: 2e-5,
                50: 2e-5,
                75: 2e-5 * 0.505,
                100: 2e-7,
                129.9: 2e-7,
            },
        ),
        ("psla", {0: 0, 0.5: 1e-4, 9.99: 1e-4, 10: 5e-5, 14.99: 5e-5, 15: 2.5e-5, 29.9: 1e-4 / 16}),
        ("ast", {0: 0, 1.99: 1e-5, 2: 5e-6, 3: 2.5e-6, 4.9: 1.25e-6}),
        ("panns", {0: 1e-3, 59.9: 1e-3}),
        (
            "htsat",
            {
                0: 2e-5,
                0.99: 2e-5,
                1: 5e-5,
                2: 1e-4,
                10.99: 1e-4,
                11: 5e-5,
                20.99: 5e-5,
                21: 2e-5,
                30.99: 2e-5,
                31: 3e-5,
                99.9: 3e-5,
            },
        ),
        ("mn", {5: 6e-5 * np.exp(-5 * 0.25), 10: 6e-5, 42.5: 6e-5 * 0.505, 75: 6e-7, 79: 6e-7}),
    ],
)
def test_published_rates(encoder, points):
    r = RECIPES[encoder]
    for epoch, rate in points.items():
        assert r.learning_rate * schedule_factor(r, epoch, int(epoch * 20_000)) == pytest.approx(
            rate, rel=1e-9
        ), epoch


# Worked out from the authors' formula (PaSST's and EfficientAT's exp_rampup): the epoch is clipped to
# [0.5, w], and the share of the peak is exp(-5 (1 - epoch/w)^2).
PUBLISHED_WARMUP = {
    "passt": {0: 0.0174, 1: 0.0408, 2: 0.1653, 4: 0.8187, 5: 1},
    "mn": {0: 0.0110, 1: 0.0174, 2: 0.0408, 5: 0.2865, 9: 0.9512, 10: 1},
}


@pytest.mark.parametrize("name", PUBLISHED_WARMUP)
def test_warmup_is_the_published_one(name):
    """Before: recipe `mn` began at 0.0174 of its peak, for the floor was a tenth of the warm-up."""
    for epoch, share in PUBLISHED_WARMUP[name].items():
        assert schedule_factor(RECIPES[name], epoch, 0) == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize("warmup", [0, 0.1, 0.5])
def test_no_warmup_of_half_an_epoch_or_less(warmup):
    shape = dict(epochs=10, warmup_epochs=warmup, decay_from=0.5, decay_to=1, final_rate=0.01)
    assert [rate_factor(e, **shape) for e in (0, warmup/2, warmup)] == [1, 1, 1]


def test_warmup_in_steps_runs_across_epochs():
    """200 steps an epoch: the rise takes five of them, and a halving inside it counts."""
    assert [halving_factor(s / 200, s, 1000, 10, 5) for s in (0, 100, 999, 1000, 1999)] == [
        0,
        0.1,
        0.999,
        1,
        1,
    ]
    assert halving_factor(2.5, 500, 1000, 2, 1) == 0.25
    assert halving_factor(0.0, 0, 0, 10, 5) == 1


def test_default_schedule_is_the_old_one():
    cfg = make_config("demo", epochs=7)
    for e in np.linspace(0, 7, 50):
        assert schedule_factor(cfg, e, 0) == rate_factor(
            e, 7, cfg.warmup_epochs, cfg.decay_from, cfg.decay_to, cfg.final_rate
        )


# ---- samplers


def test_balanced_order_follows_the_weights():
    rng = np.random.default_rng(0)
    y = np.zeros((2000, 2), np.float32)
    y[:, 0] = 1
    y[:20, 1] = 1
    drawn = np.mean(
        [np.isin(epoch_order(y, e, 0, balanced=True, epoch_clips=100), range(20)).sum() for e in range(200)]
    )
    w = y @ (1000 / (100 + y.sum(0)))
    expected = np.mean(
        [np.isin(rng.choice(2000, 100, replace=False, p=w / w.sum()), range(20)).sum() for _ in range(200)]
    )
    assert abs(drawn - expected) < 1.5 and drawn > 3
    assert len(set(epoch_order(y, 0, 0, balanced=True, epoch_clips=100))) == 100


LONG_TAIL = (np.random.default_rng(0).random((600, 12)) < 0.4 / np.arange(1, 13)).astype(np.float32)
LONG_TAIL[LONG_TAIL.sum(1) == 0, 0] = 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_order_depends_on_seed_and_epoch_alone(sampler):
    def draw(epoch, seed):
        return epoch_order(LONG_TAIL, epoch, seed, True, 100, sampler)

    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert draw(3, 1) == draw(3, 1) and draw(3, 1) != draw(4, 1) and draw(3, 1) != draw(3, 2)
    assert len(draw(0, 0)) == 100 and all(type(i) is int for i in draw(0, 0))
    assert np.array_equal(state[0], np.random.get_state()[1]) and torch.equal(state[1], torch.get_rng_state())


def test_weighted_with_draws_by_its_weights():
    weights = LONG_TAIL @ (1000 / (LONG_TAIL.sum(0) + 0.01))
    expected = 200_000 * weights / weights.sum()
    counts = np.bincount(epoch_order(LONG_TAIL, 0, 0, True, 200_000, "weighted-with"), minlength=600)
    z = (counts - expected) / np.sqrt(expected)
    assert abs(z).max() < 4.5 and 0.85 < z.std() < 1.15
    assert len(epoch_order(LONG_TAIL, 0, 0, True, 0, "weighted-with")) == 600


def test_class_turn_gives_every_class_the_same_number_of_turns():
    counts = LONG_TAIL.sum(0)
    share = np.zeros(600)
    for c in range(12):
        share += LONG_TAIL[:, c] / counts[c] / 12
    drawn = np.bincount(epoch_order(LONG_TAIL, 0, 0, True, 120_000, "class-turn"), minlength=600)
    assert (
        abs(drawn - 120_000 * share).max() < 12
    )  # a class's clips come round evenly: at most one apart for each label of a clip


def test_class_turn_uses_all_clips_of_a_class_before_one_comes_again():
    y = np.eye(3)[np.array([0] * 5 + [1] * 3 + [2])]
    order = class_turn(y, 30, np.random.default_rng(0))
    label = y.argmax(1)[order]
    assert all(sorted(label[i : i + 3]) == [0, 1, 2] for i in range(0, 30, 3))
    first = [i for i, c in zip(order, label) if c == 0]
    assert sorted(first[:5]) == sorted(first[5:]) == list(range(5))


@given(seed=st.integers(0, 99), n=st.integers(1, 30), classes=st.integers(1, 6), size=st.integers(1, 70))
def test_class_turn_on_any_labels(seed, n, classes, size):
    rng = np.random.default_rng(seed)
    y = rng.random((n, classes)) < 0.3
    y[0, 0] = True
    order = class_turn(y, size, rng)
    present = y.any(0).sum()
    assert len(order) == size and y[order].any(1).all()
    for i in range(0, size - present + 1, present):
        assert y[order[i : i + present]][:, y.any(0)].any(0).all()


# ---- mixup and optimizers


def test_mixup_keeps_labels_and_sound_together():
    torch.manual_seed(0)  # for the draws below
    wave, y = torch.randn(64, 100), torch.eye(64)
    mixed, soft = mixup(wave, y, 1.0, 2.0)
    assert torch.allclose(mixed, soft @ (wave - wave.mean(1, keepdim=True)), atol=1e-5)
    untouched, hard = mixup(wave, y, 0.0, 2.0)
    assert untouched is wave and hard is y


def test_mixup_that_keeps_labels():
    """HTS-AT's: own labels, own share anything from 0 to 1, and the same draws as the mixup that mixes
    them."""
    wave, y = torch.randn(512, 8), torch.eye(512)
    torch.manual_seed(0)  # for the draws below
    mixed, same = mixup(wave, y, 1.0, 0.5, labels=False)
    assert same is y
    centred = wave - wave.mean(1, keepdim=True)
    torch.manual_seed(0)
    share = torch.distributions.Beta(0.5, 0.5).sample((512,))[:, None]
    torch.rand(512)
    assert (
        torch.allclose(mixed, share * centred + (1 - share) * centred[torch.randperm(512)])
        and (share < 0.5).any()
    )


@pytest.mark.parametrize("encoder", RECIPES)
def test_optimizer_of_each_recipe(encoder):
    made = make_optimizer([dict(params=[torch.nn.Parameter(torch.ones(1))], lr=1.0)], RECIPES[encoder])
    kind = dict(
        psla=(torch.optim.Adam, (0.95, 0.999), 5e-7, False),
        ast=(torch.optim.Adam, (0.95, 0.999), 5e-7, False),
        panns=(torch.optim.Adam, (0.9, 0.999), 0, True),
        passt=(torch.optim.AdamW, (0.9, 0.999), 1e-4, False),
        htsat=(torch.optim.AdamW, (0.9, 0.999), 0.05, False),
        mn=(torch.optim.Adam, (0.9, 0.999), 0, False),
    )[encoder]
    assert (
        type(made),
        made.defaults["betas"],
        made.defaults["weight_decay"],
        made.defaults["amsgrad"],
    ) == kind
