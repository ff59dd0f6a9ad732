"""The embedded corpus: the same samples for the same seed, whole files, labels with their ancestors."""
import csv
import hashlib
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from spa_lib.data import CLIP_COLUMNS, sounds, synth, synth_classes, synth_clip, synth_clips, synth_event
from spa_lib.ontology import Ontology

ONT = Ontology.audioset()
MIDS = synth_classes()
small = dict(seconds=1.5, sample_rate=16000, progress=False)


def digest(y):
    return hashlib.sha256(np.round(y * 32767).astype("<i2").tobytes()).hexdigest()


GOLDEN = [
    (0.057, ["Cymbal", "Trumpet", "Acoustic guitar"]),
    (0.0633, ["Vehicle horn, car horn, honking", "Accelerating, revving, vroom",
              "Fire engine, fire truck (siren)"]),
    (0.1734, ["Hoot"]),
    (0.0523, ["Church bell", "Sawing", "Drill"]),
]  # RMS and events of the first clips


# ---- classes

def test_classes_are_evaluated_audioset_classes_of_all_seven_branches():
    assert len(MIDS) == len(set(MIDS)) >= 60 and set(MIDS) <= set(ONT.mids)
    assert list(MIDS) == sorted(MIDS, key=ONT.index)
    per_branch = {m: sum(ONT.branch(c) == m for c in MIDS) for m in ONT.nodes if ONT.depth(m) == 0}
    assert len(per_branch) == 7 and min(per_branch.values()) >= 5
    assert {ONT.name(m) for m in MIDS} == set(synth._SOUNDS)


def test_no_class_stands_in_two_tables():
    tables = [synth._HUMAN, synth._ANIMAL, synth._MUSIC, synth._THINGS, synth._MATTER, synth._NATURAL,
              synth._AMBIGUOUS, synth._CHANNEL]
    assert sum(map(len, tables)) == len(synth._SOUNDS)


def test_mids_are_those_of_the_official_class_list(shared):
    with open(shared / "data/audioset_meta/class_labels_indices.csv", newline="") as f:
        official = {r["display_name"]: r["mid"] for r in csv.DictReader(f)}
    assert {official[name] for name in synth._SOUNDS} == set(MIDS)


def test_every_range_is_in_order_and_every_parameter_exists():
    for name, (family, ranges) in synth._SOUNDS.items():
        known = family.__code__.co_varnames[:family.__code__.co_argcount]
        assert set(ranges) <= set(known), name
        for v in ranges.values():
            assert not isinstance(v, tuple) or v[0] < v[1], name


# ---- events

@pytest.mark.parametrize("mid", MIDS, ids=[ONT.name(m) for m in MIDS])
def test_event_is_finite_loud_and_varied(mid):
    made = []
    for seed, seconds, rate in ((0, 1.0, 32000), (1, 2.5, 16000), (2, 0.7, 44100), (3, 1.0, 32000)):
        y = synth_event(mid, np.random.default_rng(seed), seconds, rate)
        assert y.dtype == np.float32 and y.shape == (int(seconds * rate),)
        assert np.isfinite(y).all() and 0.03 < np.abs(y).max() < 20
        frames = y[:len(y) // 320 * 320].reshape(-1, 320)
        assert 0.05 < np.sqrt((frames**2).mean(1).max()) < 5
        made.append(y)
    assert not np.allclose(made[0], made[3])
    assert np.array_equal(made[0], synth_event(ONT.name(mid), np.random.default_rng(0), 1.0, 32000))


def test_unknown_class_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'Meow'"):
        synth_event("Meaw", np.random.default_rng(0))
    with pytest.raises(ValueError, match="synthesised class"):
        synth_event("Polka", np.random.default_rng(0))


@pytest.mark.parametrize("family", [
    sounds.voice, sounds.notes, sounds.percussion, sounds.motor, sounds.signal, sounds.rush,
    sounds.reverberation])
def test_families_depend_on_their_generator_alone(family):
    a, b, c = (family(np.random.default_rng(s), 8000, 16000) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert family is sounds.signal or not np.array_equal(a, c)  # a steady tone has nothing left to chance


# ---- clips

def test_clip_is_a_function_of_its_seeds():
    y, events = synth_clip("train", 3)
    again, same = synth_clip("train", 3)
    assert np.array_equal(y, again) and events == same
    others = [synth_clip("eval", 3), synth_clip("train", 4), synth_clip("train", 3, seed=1)]
    assert len({digest(x[0]) for x in [(y,), *others]}) == 4


def test_clips_are_the_same_in_another_process():
    clips = (("train", 0), ("eval", 7), ("train", 100))
    code = f"""
import hashlib
import numpy as np
from spa_lib.data import synth_clip
for clip in {clips!r}:
    y, _ = synth_clip(*clip, 2.0, 16000)
    print(hashlib.sha256(np.round(y * 32767).astype("<i2").tobytes()).hexdigest())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(synth_clip(*clip, 2.0, 16000)[0]) for clip in clips]


def test_sounds_change_only_with_the_version():
    """If the sounds were meant to change: raise SYNTH_VERSION, then put the new numbers here."""
    assert synth.SYNTH_VERSION == 1
    for i, (rms, names) in enumerate(GOLDEN):
        y, events = synth_clip("train", i)
        assert [ONT.name(event.mid) for event in events] == names
        assert np.sqrt((y**2).mean()) == pytest.approx(rms, rel=1e-2)


def test_clips_are_in_range_and_short_of_silence():
    for i in range(60):
        y, events = synth_clip("train", i, 2.0, 16000)
        assert y.dtype == np.float32 and y.shape == (32000,) and np.isfinite(y).all()
        assert 0.2 < np.abs(y).max() <= 1 and 1 <= len(events) <= 3
        assert all(0 <= e.onset and e.onset + e.length <= 2.0 + 1e-9 and 0 < e.gain <= 1 for e in events)


def test_each_class_opens_a_clip_in_every_round():
    for split in ("train", "eval"):
        first = [synth._draw_events(0, split, i, 4.0)[1][0].mid for i in range(2 * len(MIDS))]
        assert set(first[:len(MIDS)]) == set(first[len(MIDS):]) == set(MIDS)
        assert first[:len(MIDS)] != first[len(MIDS):]


# ---- the corpus

def test_table_has_the_columns_and_the_labels_have_their_ancestors(tmp_path):
    table = synth_clips(6, 3, root=tmp_path, **small)
    assert tuple(table.columns) == CLIP_COLUMNS
    assert table.clip_id.is_unique and list(table.split) == ["train"] * 6 + ["eval"] * 3
    assert (table.fold == -1).all()
    assert table.start_seconds.isna().all() and table.end_seconds.isna().all()
    for row in table.itertuples():
        events = synth_clip(row.split, int(row.clip_id[-6:]), 1.5, 16000)[1]
        above = {a for m, *_ in events for a in ONT.ancestors(m) if a in ONT.mids}
        assert set(row.mids) == above | {m for m, *_ in events}
        assert list(row.mids) == sorted(row.mids, key=ONT.index)


def test_files_are_the_clips_in_16_bit(tmp_path):
    table = synth_clips(2, 1, root=tmp_path, **small)
    for i, (path, split) in enumerate(zip(table.path, table.split)):
        with wave.open(path) as w:
            assert w.getnchannels() == 1 and w.getsampwidth() == 2
            assert w.getframerate() == 16000 and w.getnframes() == 24000
            y = np.frombuffer(w.readframes(24000), "<i2") / 32767
        assert np.abs(y - synth_clip(split, i % 2, 1.5, 16000)[0]).max() < 2e-5


def test_a_larger_corpus_holds_the_smaller(tmp_path):
    few = synth_clips(2, 1, root=tmp_path, **small)
    times = [Path(p).stat().st_mtime_ns for p in few.path]
    many = synth_clips(4, 2, root=tmp_path, **small).set_index("clip_id")
    assert (many.loc[few.clip_id, "path"].values == few.path.values).all()
    assert list(many.loc[few.clip_id, "mids"]) == list(few.mids)
    assert [Path(p).stat().st_mtime_ns for p in few.path] == times


def test_parameters_do_not_share_files(tmp_path):
    corpora = (dict(seconds=1), dict(seconds=1, seed=1), dict(seconds=1, sample_rate=16000),
               dict(seconds=1.5))
    paths = [set(synth_clips(1, 0, root=tmp_path, progress=False, **options).path) for options in corpora]
    assert len(set.union(*paths)) == 4


def test_default_root_is_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    assert Path(synth_clips(1, 0, **small).path[0]).is_relative_to(tmp_path / "synth")


def test_a_killed_generation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = [Path(p).read_bytes() for p in synth_clips(6, 2, root=tmp_path / "whole", **small).path]
    made, real = [], synth.synth_clip

    def dies_at_the_fourth(*args):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(args)
        return real(*args)

    monkeypatch.setattr(synth, "synth_clip", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        synth_clips(6, 2, root=tmp_path / "killed", **small)
    monkeypatch.setattr(synth, "synth_clip", real)
    folder = next((tmp_path / "killed").iterdir()) / "train"
    assert len(list(folder.glob("*.wav"))) == 3
    (folder / ".000004-left.wav").write_bytes(b"RIFF")  # what a kill -9 inside a write leaves
    (folder / "000001.wav").unlink()
    table = synth_clips(6, 2, root=tmp_path / "killed", **small)
    assert [Path(p).read_bytes() for p in table.path] == whole and len(table) == 8


@pytest.mark.parametrize("wrong", [dict(seconds=0.5), dict(sample_rate=8000)])
def test_a_clip_too_short_is_refused(wrong, tmp_path):
    with pytest.raises(ValueError, match="at least 1 s"):
        synth_clips(1, 0, root=tmp_path, **wrong)


# ---- the claim

def test_siblings_sound_more_alike_than_strangers():
    low_edges = 700 * (10 ** (np.linspace(150, 2840, 42) / 2595) - 1)
    f = np.fft.rfftfreq(512, 1 / 16000)
    bank = np.array([(f >= a) & (f < c) for a, c in zip(low_edges, low_edges[2:])]).astype(float)

    def timbre(y):
        x = 10 * np.log10(np.abs(np.fft.rfft(y.reshape(-1, 500), 512)) ** 2 @ bank.T + 1e-9)
        x = np.maximum(x - x.max(), -60)
        return x[x.max(1) > -30].mean(0)

    def of_class(i, mid):
        events = [synth_event(mid, np.random.default_rng((9, i, j)), 1.0, 16000) for j in range(4)]
        return np.mean([timbre(event) for event in events], axis=0)

    centre = np.array([of_class(i, mid) for i, mid in enumerate(MIDS)])
    d = np.sqrt(((centre[:, None] - centre) ** 2).mean(-1))
    near = ONT.subset(MIDS).distances <= 2
    far = np.array([[not set(ONT.roots(a)) & set(ONT.roots(b)) for b in MIDS] for a in MIDS])
    upper = np.triu(np.ones_like(near), 1).astype(bool)
    gap = lambda d: d[far & upper].mean() - d[near & upper].mean()
    rng = np.random.default_rng(0)
    by_chance = [gap(d[np.ix_(p, p)]) for p in (rng.permutation(len(MIDS)) for _ in range(200))]
    assert gap(d) > 3 and gap(d) > max(by_chance)
