"""What the commands and the configuration of a run say of words, values and files that are wrong."""

import json

import pytest

from spa_lib.cli import spa_plan, spa_runs, spa_train
from spa_lib.runs import AtMost, make_config, parse_where, run_name, write_config
from spa_lib.utils import one_of

OK = 0
BIG = 10**9

# what it is | values of make_config | what comes of it | what must be said
CONFIG = [
    ("nothing", dict(), OK, "ast-tiny-synth-concat-seed0-aa8709b5c6"),
    ("an unknown name", dict(encodr="ast"), ValueError, "Did you mean 'encoder'?"),
    ("a name of another library", dict(lr=1e-3), ValueError, "unknown run parameter 'lr'"),
    ("an encoder misspelt", dict(encoder="asst"), ValueError, "Did you mean 'passt'?"),
    ("an encoder in capitals", dict(encoder="AST"), ValueError, "unknown encoder 'AST'"),
    ("an encoder that is a number", dict(encoder=3), TypeError, "encoder must be str, got 3"),
    ("a source misspelt", dict(source="audiset"), ValueError, "Did you mean 'audioset'?"),
    ("a description misspelt", dict(method="conct"), ValueError, "Did you mean 'concat'?"),
    ("a branch misspelt", dict(text_branch="centered"), ValueError, "Did you mean 'centred'?"),
    ("a head misspelt", dict(head="offical"), ValueError, "Did you mean 'official'?"),
    (
        "an official head without a file",
        dict(head="official"),
        ValueError,
        "and there is none: set checkpoint",
    ),
    (
        "an official head, frozen",
        dict(head="official", checkpoint="x.pt", freeze=True, mixup_rate=0.0),
        ValueError,
        "head='official' trains nothing",
    ),
    ("no epochs", dict(epochs=0), OK, "ast-tiny"),
    ("epochs of -1", dict(epochs=-1), ValueError, "epochs must be at least 0"),
    ("epochs of 1.5", dict(epochs=1.5), TypeError, "epochs must be int, got 1.5"),
    ("epochs that are a word", dict(epochs="many"), TypeError, "epochs must be int, got 'many'"),
    ("epochs that are True", dict(epochs=True), TypeError, "epochs must be int, got True"),
    ("a batch of 0", dict(batch_size=0), ValueError, "batch_size must be at least 1"),
    (
        "a learning rate of 1e6",
        dict(learning_rate=1e6),
        ValueError,
        "learning_rate must be at most 10, got 1e+06",
    ),
    ("a learning rate below 0", dict(learning_rate=-1e-3), ValueError, "learning_rate must be at least 0"),
    (
        "a learning rate of nan",
        dict(learning_rate=float("nan")),
        ValueError,
        "learning_rate must be a finite number",
    ),
    (
        "an infinite learning rate",
        dict(learning_rate=float("inf")),
        ValueError,
        "must be a finite number, got inf",
    ),
    (
        "a rate of the heads of 1e3",
        dict(head_learning_rate=1e3),
        ValueError,
        "head_learning_rate must be at most 10",
    ),
    ("an infinite alpha", dict(alpha=float("inf")), ValueError, "alpha must be a finite number, got inf"),
    ("an alpha of nan", dict(alpha=float("nan")), ValueError, "alpha must be a finite number, got nan"),
    ("an alpha below 0", dict(alpha=-0.1), ValueError, "alpha must be at least 0"),
    ("an alpha of a million", dict(alpha=1e6), ValueError, "alpha must be at most 1000"),
    ("an alpha that is a word", dict(alpha="small"), TypeError, "alpha must be float, got 'small'"),
    ("an alpha of 1", dict(alpha=1), OK, "ast-tiny"),
    ("dropout of 1", dict(dropout=1.0), ValueError, "dropout must be less than 1"),
    ("dropout below 0", dict(dropout=-0.5), ValueError, "dropout must be at least 0"),
    ("mixup of 2", dict(mixup_rate=2.0), ValueError, "mixup_rate must be at most 1"),
    ("a beta of 0", dict(mixup_beta=0.0), ValueError, "mixup_beta must be at least 0.001"),
    ("momentum of 1", dict(momentum=1.0), ValueError, "momentum must be less than 1"),
    ("a last rate below 0", dict(final_rate=-1.0), ValueError, "final_rate must be at least 0"),
    ("clips of no length", dict(clip_seconds=0.0), ValueError, "clip_seconds must be at least 0.1"),
    ("clips of a day", dict(clip_seconds=86400.0), ValueError, "clip_seconds must be at most 3600"),
    (
        "clips of nan seconds",
        dict(clip_seconds=float("nan")),
        ValueError,
        "clip_seconds must be a finite number",
    ),
    ("no synthetic clips", dict(n_train=0), ValueError, "set n_train and n_eval"),
    ("-1 clips", dict(n_eval=-1), ValueError, "n_eval must be at least 0"),
    ("all recordings held out", dict(holdout=1.0), ValueError, "holdout must be less than 1"),
    ("a seed of -1", dict(seed=-1), ValueError, "seed must be at least 0"),
    ("a seed of 1.0", dict(seed=1.0), TypeError, "seed must be int, got 1.0"),
    ("a huge seed", dict(seed=BIG), OK, f"seed{BIG}"),
    ("a width of 0", dict(dim=0), ValueError, "dim must be at least 1"),
    ("a hidden layer of -1", dict(hidden=-1), ValueError, "hidden must be at least 0"),
    ("a precision misspelt", dict(precision="float16"), ValueError, "Did you mean 'bfloat16'?"),
    ("an optimizer misspelt", dict(optimizer="adam_w"), ValueError, "Did you mean 'adamw'?"),
    ("a schedule misspelt", dict(schedule="cosine"), ValueError, "unknown schedule 'cosine'"),
    ("a sampler without balance", dict(sampler="class-turn"), ValueError, "set balanced=True too"),
    ("balance without a number of clips", dict(balanced=True), ValueError, "set epoch_clips"),
    ("frozen with mixup", dict(freeze=True, mixup_rate=0.5), ValueError, "set mixup_rate=0"),
    ("a tag with a slash", dict(tag="a/b"), ValueError, "tag is part of a folder's name"),
    ("a tag that leads out", dict(tag=".."), ValueError, "tag is part of a folder's name"),
    ("a tag", dict(tag="mine"), OK, "-mine-"),
    ("padding misspelt", dict(pad="zeros"), ValueError, "Did you mean 'zero'?"),
    ("on_problem misspelt", dict(on_problem="skip"), ValueError, "unknown on_problem 'skip'"),
    ("on_doubt misspelt", dict(on_doubt="keeep"), ValueError, "Did you mean 'keep'?"),
    ("on_label misspelt", dict(on_label="drp"), ValueError, "Did you mean 'drop'?"),
    ("a scale misspelt", dict(scale="dem"), ValueError, "Did you mean 'demo'?"),
    ("options of the encoder misspelt", dict(encoder_options="n_mel=64"), ValueError, "n_mel"),
    ("options without a value", dict(encoder_options="n_mels"), ValueError, "is not name=value"),
    (
        "options given twice",
        dict(encoder="mn", encoder_options="n_mels=64 n_mels=64"),
        ValueError,
        "given twice",
    ),
    ("a checkpoint that is a number", dict(checkpoint=3), TypeError, "checkpoint must be str or None"),
    ("compile as a word", dict(compile="yes"), TypeError, "compile must be True or False, got 'yes'"),
]


@pytest.mark.parametrize("what, values, outcome, sentence", CONFIG, ids=[row[0] for row in CONFIG])
def test_configuration(what, values, outcome, sentence, meets):
    values = dict(values)
    meets(lambda: run_name(make_config(values.pop("scale", "demo"), **values)), outcome, sentence)


# what is typed after `python -m spa_lib.train` | exit status | what must be said
TRAIN = [
    ("", 1, "nothing to train: give config.json files"),
    ("nonsense", 1, "'nonsense' is not name=value, such as epochs=8"),
    ("epochs", 1, "'epochs' is not name=value"),
    ("epochs=", 1, "epochs must be int"),
    ("=3", 1, "unknown run parameter ''"),
    ("epochs=two", 1, "epochs must be int, got 'two'"),
    ("epochs=1 epochs=2", 1, "epochs is given twice"),
    ("epoch=1", 1, "Did you mean 'epochs'?"),
    ("scale=dem", 1, "Did you mean 'demo'?"),
    ("freeze=true", 1, "freeze must be True or False"),
    ("learning_rate=1e6", 1, "learning_rate must be at most 10"),
    ("alpha=inf", 1, "alpha must be a finite number"),
    ("alpha=nan", 1, "alpha must be a finite number"),
    ("encoder=mnn", 1, "Did you mean 'mn'?"),
    ("head=official", 1, "there is none: set checkpoint"),
    ("no.json", 1, "no.json"),
    ("EMPTY.json", 1, "config.json"),
    ("--folder", 2, "folder"),
    ("--foldr x epochs=1", 2, "foldr"),
    ("--help", 0, "learning_rate="),
]


@pytest.mark.parametrize("line, status, sentence", TRAIN, ids=[row[0] for row in TRAIN])
def test_training(line, status, sentence, tmp_path, meets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY.json").write_text("")
    if sentence == "config.json":
        sentence = "EMPTY.json cannot be read"

    def call():
        try:
            spa_train(line.split())
        except SystemExit as e:
            if e.code in (0, None):
                return
            raise

    meets(call, status, sentence)


PLANS = (
    "scale: one\nplans:\n  one:\n    parameters: {scale: smoke}\n    encoders: {ast: {}}\n"
    "    groups: {comparison: {variants: [without, concat]}}\n"
)

# what stands in the file of plans | what is typed after it | exit status | what must be said
PLAN = [
    ("a plan", PLANS, "", OK, "0 of 2 runs are finished, 2 to run"),
    ("another scale", PLANS, "--scale two", 1, "unknown scale 'two'"),
    ("no jobs", PLANS, "--jobs 0", 1, "jobs must be at least 1"),
    ("jobs that are a word", PLANS, "--jobs two", 2, "jobs"),
    ("a root that is not there", PLANS, "--root /no/folder", 1, "there is no folder /no/folder"),
    ("checkpoints that are not there", PLANS, "--checkpoints /no/folder", 1, "there is no folder /no/folder"),
    ("an empty file", "", "", 1, "holds no plans"),
    ("a list", "[1, 2]", "", 1, "holds no plans"),
    ("no yaml", "plans: {one", "", 1, "plans.yaml is no yaml: while parsing"),
    ("a plan of nothing", "scale: one\nplans: {}", "", 1, "there is none to choose from"),
    ("an encoder misspelt", PLANS.replace("ast", "astt"), "", 1, "Did you mean 'ast'?"),
    (
        "a variant misspelt",
        PLANS.replace("[without, concat]", "[without, conct]"),
        "",
        1,
        "Did you mean 'concat'?",
    ),
    (
        "a parameter misspelt",
        PLANS.replace("{scale: smoke}", "{scale: smoke, epoch: 3}"),
        "",
        1,
        "Did you mean 'epochs'?",
    ),
    ("a key misspelt", PLANS.replace("encoders", "encoder"), "", 1, "Did you mean 'encoders'?"),
    ("an unknown option", PLANS, "--job 2", 2, "job"),
]


@pytest.mark.parametrize("what, text, line, status, sentence", PLAN, ids=[row[0] for row in PLAN])
def test_plan(what, text, line, status, sentence, tmp_path, meets, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans.yaml").write_text(text)
    meets(lambda: spa_plan([str(tmp_path / "plans.yaml"), *line.split()]), status, sentence)


def test_a_file_of_plans_that_is_not_there(tmp_path, meets):
    meets(lambda: spa_plan([str(tmp_path / "no.yaml")]), 1, "no.yaml")


def test_folders_without_runs(tmp_path, meets):
    meets(lambda: spa_runs([str(tmp_path)]), 1, "no finished run in")
    meets(lambda: spa_runs([str(tmp_path / "no")]), 1, "there is no folder")
    write_config(tmp_path / "begun", make_config("smoke"))
    meets(lambda: spa_runs([str(tmp_path)]), 1, "no finished run in")
    meets(lambda: spa_runs([str(tmp_path), "more"]), 2, "more")


# what stands in the parameter `where` of a table | what comes of it | what must be said
WHERE = [
    ("", OK, "{}"),
    ("epochs=8", OK, "{'epochs': 8}"),
    ("epochs=8 alpha=0.1", OK, "'alpha': 0.1"),
    ("epochs:8", ValueError, "is not name=value"),
    ("epoch=8", ValueError, "Did you mean 'epochs'?"),
    ("epochs=8.5", ValueError, "epochs must be int"),
    ("epochs=8 epochs=9", ValueError, "given twice"),
    ("freeze=yes", ValueError, "freeze must be True or False"),
    ("root='a b'", OK, "{'root': 'a b'}"),
    ("root='a b", ValueError, 'where="root=\'a b" cannot be read as names and values'),
]


@pytest.mark.parametrize("text, outcome, sentence", WHERE, ids=[repr(row[0]) for row in WHERE])
def test_where(text, outcome, sentence, meets):
    meets(lambda: parse_where(text), outcome, sentence)


def test_a_choice_of_nothing_says_so(meets):
    """It said "Choose one of: " and nothing."""
    meets(lambda: one_of("x", [], "fold"), ValueError, "unknown fold 'x': there is none to choose from")
    meets(lambda: AtMost(1).check("share", 2.0), ValueError, "share must be at most 1, got 2")


def test_a_config_of_another_kind_is_named(tmp_path, meets):
    for content, sentence in [
        ({"encodr": "ast"}, "Did you mean 'encoder'?"),
        ([1], "holds a list"),
        ("x", "holds a str"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(content))
        meets(lambda: spa_train([str(tmp_path / "config.json")]), 1, sentence)
