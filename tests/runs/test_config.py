"""The configuration of a run: how a field is declared, what is refused, and names that stay."""
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Literal, get_args, get_type_hints

import pytest

from spa_lib.data import ON_PROBLEM, PADS
from spa_lib.ontology import METHODS
from spa_lib.runs import (
    BY_ENCODER,
    SCALES,
    AtLeast,
    LessThan,
    Local,
    NonNegativeInt,
    OneOf,
    RunConfig,
    check_together,
    checked_config,
    config_hash,
    local_fields,
    make_config,
    parse_values,
    run_name,
    variant_of,
    variant_values,
)

LOCAL = local_fields(RunConfig)
REGISTER = {"one": 1}


@dataclass(frozen=True)
class Fields:
    kind: Literal["a", "b"] = "a"
    name: Annotated[str, OneOf(REGISTER)] = "one"
    share: Annotated[float, AtLeast(0), LessThan(1)] = 0.0
    flag: bool = False
    workers: Local[NonNegativeInt] = 0
    root: Local[str|None] = None


# ---- declarations

@pytest.mark.parametrize("values, error, message", [
    (dict(kinds="a"), ValueError, "unknown run parameter 'kinds'. Did you mean 'kind'"),
    (dict(kind="c"), ValueError, "unknown kind 'c'.*Choose one of: a, b"),
    (dict(kind=3), TypeError, "kind must be str, got 3"),
    (dict(name="onee"), ValueError, "Did you mean 'one'"),
    (dict(share=-0.5), ValueError, "share must be at least 0, got -0.5"),
    (dict(share=1), ValueError, "share must be less than 1, got 1.0"),
    (dict(share="a"), TypeError, "share must be float, got 'a'"),
    (dict(flag=1), TypeError, "flag must be True or False, got 1"),
    (dict(workers=-1), ValueError, "workers must be at least 0"),
    (dict(workers=True), TypeError, "workers must be int, got True"),
    (dict(workers=1.0), TypeError, "workers must be int, got 1.0"),
    (dict(root=3), TypeError, "root must be str or None, got 3"),
])
def test_a_value_that_a_field_does_not_allow_is_refused(values, error, message):
    with pytest.raises(error, match=message):
        checked_config(Fields, values)


def test_a_whole_number_stands_for_a_float():
    share = checked_config(Fields, dict(share=0)).share
    assert isinstance(share, float) and share == 0.0


def test_a_name_may_be_registered_later():
    REGISTER["two"] = 2
    assert checked_config(Fields, dict(name="two")).name == "two"


def test_local_fields_are_those_that_are_marked():
    assert local_fields(Fields) == ("workers", "root")
    assert LOCAL == ("root", "on_leak", "download", "device", "workers", "cache", "compile")


def test_defaults_and_scales_are_allowed_values():
    assert checked_config(RunConfig, asdict(RunConfig())) == RunConfig()
    assert set(BY_ENCODER) <= set(SCALES)
    for values in SCALES.values():
        checked_config(RunConfig, values)


def test_closed_sets_are_those_of_the_functions_that_read_them():
    hints = get_type_hints(RunConfig)
    for name, options in dict(method=METHODS, pad=PADS, on_problem=ON_PROBLEM).items():
        assert get_args(hints[name]) == tuple(options)


@pytest.mark.parametrize("name, text, value", [
    ("kind", "b", "b"), ("kind", "a=b", "a=b"), ("name", "", ""), ("share", "1", 1.0),
    ("share", "1e-3", 0.001), ("flag", "True", True), ("flag", "False", False), ("root", "None", None),
    ("root", "7", "7"), ("workers", "7", 7),
])
def test_a_word_is_read_as_the_type_of_its_field(name, text, value):
    read = parse_values([f"{name}={text}"], Fields)
    assert read == {name: value} and type(read[name]) is type(value)


@pytest.mark.parametrize("words, message", [
    (["workers"], "'workers' is not name=value"), (["worker=1"], "Did you mean 'workers'"),
    (["workers=1", "workers=2"], "given twice"), (["workers=1.5"], "workers must be int, got '1.5'"),
    (["flag=yes"], "flag must be True or False, got 'yes'"), (["share="], "share must be float, got ''"),
])
def test_a_word_that_cannot_be_read_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse_values(words, Fields)


# ---- make_config

def test_only_synth_needs_a_number_of_clips():
    assert make_config("demo").n_train == 640
    assert make_config("demo", source="csv").n_train == 0 and make_config("smoke", source="csv").n_train == 64
    assert make_config("demo", source="csv", n_train=5).n_train == 5
    with pytest.raises(ValueError, match="n_train and n_eval"):
        make_config("demo", n_train=0)


@pytest.mark.parametrize("values, message", [
    (dict(n_eval=0), "n_train and n_eval"), (dict(sampler="class-turn"), "set balanced=True"),
    (dict(balanced=True), "set epoch_clips"), (dict(freeze=True, mixup_rate=0.5), "set mixup_rate=0"),
    (dict(freeze=True, augment=True), "augment=False"), (dict(holdout=1.0), "holdout must be less than 1"),
])
def test_values_that_do_not_fit_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        make_config("demo", **values)


def test_what_make_config_gives_fits_together():
    for scale in SCALES:
        check_together(make_config(scale))


def test_given_values_go_before_the_scale_and_none_keeps_it():
    assert make_config("demo", epochs=3, alpha=None) == replace(make_config("demo"), epochs=3)
    assert make_config("paper").checkpoint and make_config("paper", checkpoint="").checkpoint is None


def test_a_misspelt_encoder_is_refused():
    with pytest.raises(ValueError, match="unknown encoder 'asst'. Did you mean 'passt'"):
        make_config("demo", encoder="asst")


def test_a_released_head_is_not_trained():
    assert make_config("demo", head="official", checkpoint="mn04_as").epochs == 0


def test_a_released_head_needs_a_released_file():
    """Random weights were scored as "untouched"; with freeze, it failed once all clips were embedded."""
    with pytest.raises(ValueError, match="released file, and there is none: set checkpoint"):
        make_config("demo", head="official")
    with pytest.raises(ValueError, match="set freeze=False"):
        make_config("demo", head="official", checkpoint="mn04_as", freeze=True)


# ---- names

@pytest.mark.parametrize("field", [f.name for f in fields(RunConfig) if f.name not in LOCAL])
def test_every_field_but_the_local_ones_makes_another_experiment(field):
    value = getattr(RunConfig(), field)
    other = {str: f"{value}x", int: 7, float: 0.123, bool: not value, type(None): "x"}[type(value)]
    assert config_hash(replace(RunConfig(), **{field: other})) != config_hash(RunConfig())


@pytest.mark.parametrize("field, value", list(zip(LOCAL, ("elsewhere", "leave_out", "cuda", 4, False, True))))
def test_where_it_ran_is_not_what_was_run(field, value):
    assert run_name(replace(RunConfig(), **{field: value})) == run_name(RunConfig())


def test_checkpoint_counts_by_its_name():
    a, b = (replace(RunConfig(), checkpoint=f"{folder}/mn04.pt") for folder in ("one", "two"))
    assert config_hash(a) == config_hash(b) != config_hash(replace(a, checkpoint="mn05.pt"))


def test_names_of_runs_are_kept():
    """Folders of earlier runs go on being found."""
    assert run_name(make_config("smoke", alpha=0.0)) == "ast-tiny-synth-without-seed0-5dd2870a3a"
    released = make_config("smoke", checkpoint="mn04_as", alpha=0.0)
    assert run_name(released) == "ast-tiny-synth-without-seed0-976d8574c3"


def test_controls_and_a_tied_classifier_have_names_of_their_own():
    tied = make_config(text_branch="tied", alpha=0.0)
    graph = make_config(text_branch="centred", text_model="ontology")
    assert variant_of(tied) == "concat-tied" and variant_of(graph) == "ontology-centred"
    assert variant_of(make_config(text_branch="centred", alpha=0.0)) == "without"
    for cfg in (tied, graph):
        again = make_config(**dict(alpha=cfg.alpha) | variant_values(variant_of(cfg)))
        assert again == cfg
    assert config_hash(make_config(dropout=0.0, hidden=0)) == config_hash(make_config())
    assert len({config_hash(make_config(**v)) for v in ({}, {"dropout": 0.5}, {"hidden": 64})}) == 3
    with pytest.raises(ValueError, match="dropout must be less than 1"):
        make_config(dropout=1.0)


def test_a_run_with_a_text_branch_that_is_not_registered_says_so():
    with pytest.raises(ValueError, match="unknown text_branch 'gone'"):
        run_name(replace(make_config("smoke"), text_branch="gone"))
