"""The real corpus: the shipped lists, and a corpus built from made-up copies of the two sets."""
import re

import numpy as np
import pandas as pd
import pytest

from spa_lib.data import (
    FREESOUND_IDS,
    SET_LISTS,
    build_real_corpus,
    clip_list_hash,
    labelled_clips,
    read_clips,
    real_corpus_list,
    segment_list,
)

# of the evaluation side, as in figures/table1_real_clips_runs.csv and figures/collapse_real_clips_runs.csv
EVALUATED = "7e281c13221590085c6b2badc527fa953be0fcb7dc6396b980667e38fa0ee107"
URBAN_FOLD_1 = "46fa3353345973fb409234aa339f915eeb65bf2013753e36f7e135e66967a10f"


def write_sets(folder):
    """Both sets as their authors lay them out: the listed clips as empty files, and some clips besides."""
    clips = real_corpus_list()
    esc = clips[clips.dataset == "esc50"]
    parts = esc.clip_id.str.split("-", expand=True)
    rows = pd.DataFrame(dict(
        filename=esc.clip_id + ".wav", fold=parts[0].astype(int), target=parts[3].astype(int),
        category=esc.category, esc10=parts[0] != "4", src_file=parts[1], take=parts[2],
    ))
    first = dict(rows.iloc[0])
    weak = first | dict(filename="4-1-A-34.wav", fold=4, target=34, category="can_opening", src_file="1")
    other = first | dict(filename="2-2-A-0.wav", fold=2, category="dog", src_file="2", esc10=False)
    rows = pd.concat([rows, pd.DataFrame([weak, other])])
    (folder / "esc" / "meta").mkdir(parents=True)
    (folder / "esc" / "audio").mkdir()
    rows.to_csv(folder / "esc" / SET_LISTS["esc50"], index=False)
    for name in rows.filename:
        (folder / "esc" / "audio" / name).write_bytes(b"RIFF")

    urban = clips[clips.dataset == "urbansound8k"]
    parts = urban.clip_id.str.split("-", expand=True)
    fold = np.where(np.arange(len(urban)) % 2, 1, 2)
    rows = pd.DataFrame({
        "slice_file_name": urban.clip_id + ".wav", "fsID": parts[0], "start": 0.0, "end": urban.end_seconds,
        "salience": 1, "fold": fold, "classID": parts[1], "class": urban.category,
    })
    (folder / "urban" / "metadata").mkdir(parents=True)
    extra = dict(rows.iloc[0]) | dict(slice_file_name="7-3-0-0.wav", fsID="7")
    rows = pd.concat([rows, pd.DataFrame([extra])])
    rows.to_csv(folder / "urban" / SET_LISTS["urbansound8k"], index=False)
    for n, name in zip(rows.fold, rows.slice_file_name):
        (folder / "urban" / "audio" / f"fold{n}").mkdir(parents=True, exist_ok=True)
        (folder / "urban" / "audio" / f"fold{n}" / name).write_bytes(b"RIFF")
    return folder / "esc", folder / "urban"


def test_lists_hold_what_is_said_of_them():
    clips = real_corpus_list()
    assert clips.groupby(["split", "dataset"]).size().to_dict() == {
        ("eval", "esc50"): 283, ("eval", "urbansound8k"): 306,
        ("train", "esc50"): 424, ("train", "urbansound8k"): 480,
    }
    assert len(set(clips.clip_id)) == 1493 and len({m for mids in clips.mids for m in mids}) == 99
    kinds = set(zip(clips.dataset, clips.category))
    assert len(kinds) == 57 and sum(name == "esc50" for name, _ in kinds) == 47
    assert clips.groupby("recording").split.nunique().max() == 1
    assert not re.search(r"real clips with AudioSet labels", segment_list("train"), re.I)


def test_all_of_esc10_is_in_the_corpus(shared):
    table, _ = labelled_clips("esc10", shared / "data" / "ESC-50-part")
    assert set(table.clip_id) <= set(real_corpus_list().clip_id)


def test_built_corpus_is_the_one_that_was_scored(tmp_path):
    esc, urban = write_sets(tmp_path)
    folder = build_real_corpus(esc, urban, tmp_path / "corpus")
    table = read_clips("audioset", folder, recording_pattern=FREESOUND_IDS)
    assert table.split.value_counts().to_dict() == {"train": 904, "eval": 589}
    assert clip_list_hash(table[table.split == "eval"]) == EVALUATED
    assert len(read_clips("urbansound8k", folder / "UrbanSound8K")) == 786
    own = pd.read_csv(folder / "ESC-50" / SET_LISTS["esc50"])
    assert len(own) == 707 + 1 and "can_opening" in set(own.category)
    assert "2-2-A-0.wav" not in set(own.filename)
    assert len(read_clips("esc50", folder / "ESC-50", on_problem="leave_out")) == 707
    build_real_corpus(esc, urban, folder) # a second time over the first
    assert len(list((folder / "clips").iterdir())) == 1493


def test_a_clip_that_is_absent_is_named_and_nothing_is_written(tmp_path):
    esc, urban = write_sets(tmp_path)
    (esc / "audio" / "1-100032-A-0.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 1493 clips are not there: 1-100032-A-0 in .*esc"):
        build_real_corpus(esc, urban, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_list_that_contradicts_the_shipped_one_is_refused(tmp_path):
    esc, urban = write_sets(tmp_path)
    path = urban / SET_LISTS["urbansound8k"]
    rows = pd.read_csv(path)
    rows.loc[rows.slice_file_name == "98223-7-7-0.wav", "class"] = "siren"
    rows.to_csv(path, index=False)
    with pytest.raises(ValueError, match="1 clips are of another category .* 98223-7-7-0 is jackhammer here"):
        build_real_corpus(esc, urban, tmp_path / "corpus")


def test_real_sets_give_the_scored_folds(shared, tmp_path):
    folders = (shared / "data" / name for name in ("ESC-50-part", "UrbanSound8K-part"))
    folder = build_real_corpus(*folders, tmp_path / "corpus")
    table = read_clips("urbansound8k", folder / "UrbanSound8K", eval_fold=1)
    assert clip_list_hash(table[table.split == "eval"]) == URBAN_FOLD_1
    table = read_clips("audioset", folder, recording_pattern=FREESOUND_IDS)
    assert clip_list_hash(table[table.split == "eval"]) == EVALUATED
    given = (shared / "data" / "audioset_mini" / "eval_segments.csv").read_text().splitlines()[1:]
    assert segment_list("eval").splitlines()[1:] == given
