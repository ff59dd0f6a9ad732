"""Which clips are evaluated, where a corpus says so and where it does not: all four of README's ladder."""

import logging

import numpy as np
import pytest
import soundfile

from spa_lib.runs import make_config
from spa_lib.train import list_clips

OK, RATE = 0, 16000


def sound(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=1600), RATE)


def esc50(folder):
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for n in range(20):
        name = f"{n % 5 + 1}-{100 + n}-A-{n % 2}.wav"
        lines.append(f"{name},{n % 5 + 1},{n % 2},{('dog', 'rain')[n % 2]},True,{100 + n},A")
        sound(folder / "audio" / name, n)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines))
    return folder


def urbansound8k(folder):
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for n in range(20):
        name, fold = f"{100 + n}-3-0-{n}.wav", n % 10 + 1
        lines.append(f"{name},{100 + n},0,1,1,{fold},3,{('dog_bark', 'siren')[n % 2]}")
        sound(folder / "audio" / f"fold{fold}" / name, n)
    (folder / "metadata").mkdir()
    (folder / "metadata" / "UrbanSound8K.csv").write_text("\n".join(lines))
    return folder


def table(header, more=lambda n: "", rows=20):
    def make(folder):
        lines = [header]
        for n in range(rows):
            lines.append(f"{n}.wav,{('Dog', 'Rain')[n % 2]}{more(n)}")
            sound(folder / f"{n}.wav", n)
        (folder / "clips.csv").write_text("\n".join(lines))
        return folder / "clips.csv"

    return make


def audioset(*lists):
    def make(folder):
        for name in lists:
            ids = [f"{name[:5]}{n:06d}" for n in range(4)]
            (folder / f"{name}_segments.csv").write_text("\n".join(f'{i}, 0, 10, "/m/09x0r"' for i in ids))
            for n, clip_id in enumerate(ids):
                sound(folder / "clips" / f"{clip_id}.wav", n + 100 * len(name))
        return folder

    return make


def sides_of(n):
    return f",{'eval' if n < 5 else 'train'}"


# what it is | source, how it is made | values of a run | outcome | clips a side, or what must be said
ROWS = [
    ("AudioSet", ("audioset", audioset("train", "eval")), {}, OK, "4 and 4"),
    (
        "AudioSet without its evaluation list",
        ("audioset", audioset("train")),
        {},
        ValueError,
        "no clip on its 'eval' side: holdout=0.2 evaluates on",
    ),
    (
        "AudioSet without a training list",
        ("audioset", audioset("eval")),
        {},
        ValueError,
        "no clip on its 'train' side",
    ),
    ("ESC-50", ("esc50", esc50), {}, OK, "16 and 4"),
    ("ESC-50, what is said", ("esc50", esc50), {}, OK, "4 of 20 clips are evaluated, fold 5 of 5"),
    ("ESC-50, fold 2", ("esc50", esc50), dict(eval_fold=2), OK, "16 and 4"),
    ("ESC-50, fold 9", ("esc50", esc50), dict(eval_fold=9), ValueError, "unknown eval_fold of esc50"),
    ("ESC-10", ("esc10", esc50), {}, OK, "16 and 4"),
    ("UrbanSound8K", ("urbansound8k", urbansound8k), {}, OK, "18 and 2"),
    ("a csv with sides", ("csv", table("path,labels,split", sides_of)), {}, OK, "15 and 5"),
    ("a csv without", ("csv", table("path,labels")), {}, OK, "16 and 4"),
    (
        "a csv without, what is said",
        ("csv", table("path,labels")),
        {},
        OK,
        "4 of 20 recordings, drawn with one seed",
    ),
    (
        "a csv without, two clips a recording",
        ("csv", table("path,labels,recording", lambda n: f",{n // 2}")),
        {},
        OK,
        "16 and 4",
    ),
    ("a csv with folds", ("csv", table("path,labels,fold", lambda n: f",{n % 4 + 1}")), {}, OK, "15 and 5"),
    ("a csv without, a part held out", ("csv", table("path,labels")), dict(holdout=0.25), OK, "12 and 4"),
    (
        "a csv of training clips alone",
        ("csv", table("path,labels,split", lambda n: ",train")),
        {},
        ValueError,
        "no clip on its 'eval' side: holdout=0.2 evaluates on",
    ),
    ("a csv of one clip", ("csv", table("path,labels", rows=1)), {}, ValueError, "no clip on its"),
]


@pytest.mark.parametrize("what, corpus, values, outcome, sentence", ROWS, ids=[row[0] for row in ROWS])
def test_sides(what, corpus, values, outcome, sentence, tmp_path, meets, monkeypatch, caplog):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.WARNING)
    (tmp_path / "corpus").mkdir()
    source, make = corpus
    cfg = make_config("real", source=source, root=str(make(tmp_path / "corpus")), **values)

    def call():
        train, evaluate = list_clips(cfg)
        assert not set(train.recording) & set(evaluate.recording)
        assert list_clips(cfg)[1].clip_id.tolist() == evaluate.clip_id.tolist()
        return f"{len(train)} and {len(evaluate)}"

    meets(call, outcome, sentence)
