"""Two sides of clips: a part that holds every class, and leaks from one side to the other."""
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.data import (
    YOUTUBE_IDS,
    content_digests,
    draw_clips,
    find_leaks,
    pack,
    read_clips,
    recordings_of,
    without_leaks,
)
from spa_lib.data import sides as sides_module

labels = st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))


@settings(max_examples=200, deadline=None)
@given(mids=st.lists(labels, min_size=1, max_size=60), n=st.integers(1, 60), seed=st.integers(0, 3))
def test_a_part_has_n_clips_and_every_class_that_fits(mids, n, seed, rows_of):
    table = rows_of([(f"r{i}", of_clip) for i, of_clip in enumerate(mids)])
    part = draw_clips(table, n, seed)
    assert len(part) == min(n, len(table)) and part.clip_id.is_unique
    present = {mid for of_clip in table.mids for mid in of_clip}
    if n >= len(present):
        assert {mid for of_clip in part.mids for mid in of_clip} == present
    again = draw_clips(table.sample(frac=1, random_state=seed), n, seed)
    assert set(again.clip_id) == set(part.clip_id)
    assert part.clip_id.tolist() == [i for i in table.clip_id if i in set(part.clip_id)]


def test_a_part_has_the_shares_of_the_whole(rows_of):
    rows = [("a",)] * 600 + [("a", "b")] * 300 + [("c",)] * 90 + [("d",)] * 9 + [("e",)]
    part = draw_clips(rows_of([(f"r{i}", mids) for i, mids in enumerate(rows)]), 100, 0)
    counts = part.mids.explode().value_counts()
    assert counts.to_dict() == pytest.approx(dict(a=90, b=30, c=9, d=1, e=1), abs=1)


def test_classes_that_a_part_has_no_room_for_are_named(rows_of, caplog):
    part = draw_clips(rows_of([(f"r{i}", (mid,)) for i, mid in enumerate("aaabbc")]), 2, 0)
    assert {mid for (mid,) in part.mids} == {"b", "c"}
    assert "1 classes have none of them: a" in caplog.text


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def two_sides(tmp_path, table_of):
    """Three training and three evaluation clips; the bytes of t1 and e2 are the same."""
    contents = dict(t0=b"a" * 99, t1=b"b" * 99, t2=b"c" * 98, e0=b"d" * 99, e1=b"e" * 98, e2=b"b" * 99)
    table = table_of([write(tmp_path / "clips", f"{name}.wav", data) for name, data in contents.items()])
    return table[:3].reset_index(drop=True), table[3:].reset_index(drop=True)


def test_the_same_content_under_two_ids_is_a_leak(two_sides):
    train, evaluate = two_sides
    refusal = r"1 of 3 training clips .*\n.*'t1'.*'e2'.*content(.|\n)*on_leak='leave_out'"
    with pytest.raises(ValueError, match=refusal):
        without_leaks(train, evaluate, "refuse")
    kept = without_leaks(train, evaluate, "leave_out")
    assert kept.clip_id.tolist() == ["t0", "t2"]
    assert [p["clip_id"] for p in kept.attrs["problems"]] == ["t1"]
    assert without_leaks(kept, evaluate, "refuse") is kept
    with pytest.raises(ValueError, match="on_leak"):
        without_leaks(train, evaluate, "raise")


def test_one_recording_on_both_sides_is_a_leak(two_sides):
    train, evaluate = (side.assign(recording=[*"xyz"]) for side in two_sides)
    with pytest.raises(ValueError, match="3 of 3 training clips .*3 by recording"):
        without_leaks(train, evaluate, "refuse")
    train["recording"] = ["p", "q", "z"]
    assert [(leak.clip_id, leak.other, leak.shared) for leak in find_leaks(train, evaluate)] == [
        ("t1", "e2", "content"), ("t2", "e2", "recording")]


def test_two_segments_of_one_file_are_a_leak(two_sides):
    train, evaluate = two_sides
    path = train.path[0]
    evaluate = evaluate.assign(path=[path, *evaluate.path[1:]], start_seconds=5.0)
    assert ("t0", "e0") in [(leak.clip_id, leak.other) for leak in find_leaks(train, evaluate)]


def test_large_files_that_differ_somewhere_are_no_leak(tmp_path, table_of):
    x = bytes(range(256)) * 2048
    different = [x, b"-" + x[1:], x[:-1] + b"-", x[:300000] + b"-" + x[300001:]]
    table = table_of([write(tmp_path, f"{n}.wav", data) for n, data in enumerate([*different, x])])
    assert [leak.row for leak in find_leaks(table[:4], table[4:])] == [0]


def test_digests_are_computed_once_a_file_and_again_when_it_changed(two_sides, tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    paths, read = two_sides[0].path.tolist(), []
    counted = lambda path: read.append(path) or "digest"
    monkeypatch.setitem(sides_module._DIGESTS, "whole", counted)
    assert content_digests(paths) == content_digests(paths) == ["digest"] * 3 and len(read) == 3
    os.utime(paths[0], ns=(1, 1))
    content_digests(paths)
    assert read[3:] == [paths[0]]


def test_clips_in_shards_are_compared_by_their_index(tmp_path, noise, table_of):
    for i, name in enumerate(["a", "b", "c"]):
        noise(tmp_path / f"{name}.wav", 0.1, seed=i)
    shutil.copy(tmp_path / "a.wav", tmp_path / "d.wav")
    table = table_of([tmp_path / f"{name}.wav" for name in "abcd"])
    pack(table.assign(split=["train"] * 2 + ["eval"] * 2), tmp_path / "shards", progress=False)
    packed = read_clips("shards", tmp_path / "shards")
    train, evaluate = (packed[packed.split == split] for split in ("train", "eval"))
    assert [(leak.clip_id, leak.other) for leak in find_leaks(train, evaluate)] == [("a", "d")]


def test_segments_of_one_video_are_one_recording(tmp_path, noise, ontology):
    lists = dict(train_segments=["b0RFKhbpFJA_30000", "-0RWZT-miFs_0"], eval_segments=["b0RFKhbpFJA_50000"])
    for name, ids in lists.items():
        rows = [f'{i}, 0.000, 10.000, "/m/06mb1"\n' for i in ids]
        head = "# YTID, start_seconds, end_seconds, positive_labels\n"
        (tmp_path / f"{name}.csv").write_text(head + "".join(rows))
        for seed, i in enumerate(ids):
            noise(tmp_path / "clips" / f"{i}.wav", 0.1, seed=seed + 10 * len(ids))
    table = read_clips("audioset", tmp_path, ontology)
    train, evaluate = (table[table.split == split] for split in ("train", "eval"))
    (leak,) = find_leaks(train, evaluate)
    assert (leak.clip_id, leak.shared) == ("b0RFKhbpFJA_30000", "recording")


def test_video_of_a_clip_id():
    ids = ["--4gqARaEJE", "Y--4gqARaEJE", "Yabcdefghij", "b0RFKhbpFJA_30", "b0RFKhbpFJA_30.000_40.000"]
    assert recordings_of(ids, YOUTUBE_IDS) == [ids[0], ids[0], ids[2], "b0RFKhbpFJA", "b0RFKhbpFJA"]
    with pytest.raises(ValueError, match="matches 0 of 1"):
        recordings_of(["1-100032-A-0"], YOUTUBE_IDS)
