"""The clip table: sources by name, labels, recordings, splits without leaks, digests."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spa_lib.data import (
    CLIP_COLUMNS,
    FREESOUND_IDS,
    SOURCES,
    ClipError,
    Clips,
    Problem,
    batches,
    check_clips,
    clip_list_hash,
    clip_table,
    pick_unseen,
    read_clips,
    register_source,
    resolve_labels,
    split_by_fold,
    split_by_recording,
    targets,
)
from spa_lib.runs import make_config
from spa_lib.train import train


def test_rows_are_told_apart_whatever_the_index(tmp_path, noise, table_of):
    paths = [tmp_path / f"{n}.wav" for n in "abc"]
    for p in paths[1:]:
        noise(p, 0.1)
    table = table_of(paths).set_index(pd.Index([0, 0, 0]))
    assert list(check_clips(table, on_problem="leave_out", progress=False).clip_id) == ["b", "c"]


@pytest.mark.parametrize("wrong, message", [
    (dict(source="esc-50"), "Did you mean 'esc50'"),
    (dict(source="csv", on_problem="drop"), "on_problem"),
    (dict(source="csv", eval_fold=1), "unknown option of csv"),
    (dict(source="csv"), "needs root="),
    (dict(source="audioset"), "needs root="),
])
def test_wrong_choices(wrong, message, ontology):
    with pytest.raises(ValueError, match=message):
        read_clips(ontology=ontology, **wrong)


def test_targets(ontology, rows_of):
    table = rows_of([("a", ("/m/06mb1", "/m/03m9d0z")), ("b", ("/m/06mb1",))])
    y = targets(table, ontology)
    assert y.dtype == np.uint8 and y.shape == (2, 527) and y.sum() == 3
    assert [ontology.mids[c] for c in np.flatnonzero(y[1])] == ["/m/06mb1"]
    small = ontology.subset(["/m/03m9d0z", "/m/06mb1"])
    assert np.array_equal(targets(table, small)[:, small.index("/m/06mb1")], [1, 1])
    with pytest.raises(ClipError, match="clip 'c0': unknown label"):
        targets(table, ontology.subset(["/m/06mb1"]))


def test_hash_is_of_the_list_alone(rows_of):
    table = rows_of([("a", ("/m/06mb1", "/m/03m9d0z")), ("b", ("/m/06mb1",))])
    assert clip_list_hash(table) == clip_list_hash(table[::-1].assign(path="elsewhere"))
    others = [table.assign(clip_id=["c0", "x"]), table.assign(start_seconds=1.0),
              table.assign(mids=[("/m/06mb1",)] * 2), table[:1]]
    assert len({clip_list_hash(t) for t in [table, *others]}) == 5
    assert clip_list_hash(table) == "666c426483d3a3e6d75a57bda598661a8227fff259b96ef8992ccb3244650973"


names = st.sampled_from([f"r{i}" for i in range(12)])
labels = st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
recordings = st.lists(st.tuples(names, labels), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(rows=recordings, fraction=st.sampled_from([0.1, 0.25, 0.5, 0.8]), seed=st.integers(0, 3))
def test_split_never_divides_a_recording(rows, fraction, seed, rows_of):
    table = rows_of(rows)
    a, b = split_by_recording(table, fraction, seed)
    assert not set(a.recording) & set(b.recording)
    assert sorted([*a.clip_id, *b.clip_id]) == sorted(table.clip_id)
    of = lambda part, m: {r for r, mids in zip(part.recording, part.mids) if m in mids}
    one_sided = {m for m in "abcdef" if len(of(table, m)) > 1 and not (of(a, m) and of(b, m))}
    assert set(a.attrs["one_sided"]) == set(b.attrs["one_sided"]) == one_sided
    again = split_by_recording(table, fraction, seed)
    assert again[0].equals(a) and again[1].equals(b)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=8), min_size=1, max_size=6),
       fraction=st.sampled_from([0.1, 0.3, 0.5, 0.9]), seed=st.integers(0, 3))
def test_single_label_classes_are_on_both_sides(sizes, fraction, seed, rows_of):
    rows = []
    for c, of_class in enumerate(sizes):
        for r, n in enumerate(of_class):
            rows += [(f"{c}-{r}", (f"m{c}",))] * n
    a, b = split_by_recording(rows_of(rows), fraction, seed)
    every = {f"m{c}" for c in range(len(sizes))}
    assert {m for m, in a.mids} == {m for m, in b.mids} == every and a.attrs["one_sided"] == ()


def test_split_has_its_share_and_depends_on_the_seed(rows_of):
    rows = [(f"{c}-{r}", (f"m{c}",)) for c in range(10) for r in range(20) for _ in range(3)]
    table = rows_of(rows)
    parts = [split_by_recording(table, 0.25, s) for s in range(3)]
    assert [len(b) for _, b in parts] == [150] * 3
    assert len({tuple(b.clip_id) for _, b in parts}) == 3
    shuffled = split_by_recording(table.sample(frac=1, random_state=0), 0.25, 0)
    assert set(shuffled[1].clip_id) == set(parts[0][1].clip_id), "the order of the rows does not matter"


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1])
def test_split_refuses(fraction, rows_of):
    with pytest.raises(ValueError, match="fraction"):
        split_by_recording(rows_of([("a", ("m",))]), fraction, 0)


def test_split_of_real_clips(shared, ontology):
    folder = shared / "data" / "audioset_mini"
    table = read_clips("audioset", folder, ontology, recording_pattern=FREESOUND_IDS)
    train = table[table.split == "train"]
    for seed in range(3):
        a, b = split_by_recording(train, 0.2, seed)
        assert not set(a.recording) & set(b.recording) and b.attrs["one_sided"] == ()
        assert abs(len(b) / len(train) - 0.2) < 0.06


# ---- the register of sources ------------------------------------------------------------------------------

@pytest.fixture
def register():
    """The register, put back as it was afterwards."""
    before = dict(SOURCES)
    yield SOURCES
    SOURCES.clear()
    SOURCES.update(before)


@pytest.fixture
def barks(register, noise, tmp_path):
    """A source from outside the package: short noises called Bark and Rain, made where they are absent."""
    @register_source("barks", add_ancestors=True)
    def bark_clips(root=None, n=24, seconds=1.0):
        paths = [tmp_path / f"{i}.wav" for i in range(n)]
        for i, path in enumerate(paths):
            noise(path, seconds, seed=i)
        labels = [("Bark",) if i % 2 else ("Rain", "Wind") for i in range(n)]
        split = ["eval" if i % 3 == 0 else "train" for i in range(n)]
        return clip_table([f"bark{i}" for i in range(n)], map(str, paths), labels, split)

    return bark_clips


def test_a_source_from_outside_is_read_by_its_name(barks, ontology):
    table = read_clips("barks", n=6)
    assert tuple(table.columns) == CLIP_COLUMNS and len(table) == 6
    assert [ontology.name(m) for m in table.mids[1]] == ["Bark", "Animal", "Domestic animals, pets", "Dog"]
    assert read_clips("barks", n=2, add_ancestors=False).mids[1] == (ontology.mid("Bark"),)
    assert [b.wave.shape for b in batches(Clips(table, ontology, 16000, 0.5), 4)] == [(4, 8000), (2, 8000)]
    with pytest.raises(ValueError, match="Did you mean 'barks'"):
        read_clips("bark")
    with pytest.raises(ValueError, match="unknown option of barks 'second'. Did you mean 'seconds'"):
        read_clips("barks", second=2)


def test_a_run_on_a_source_from_outside(barks, tmp_path):
    cfg = make_config("smoke", source="barks", clip_seconds=1.0, device="cpu")
    run = train(cfg, tmp_path / "runs", progress=False)
    assert "-barks-" in run.folder.name and set(run.clip_ids) == {f"bark{i}" for i in range(0, 24, 3)}
    with pytest.raises(ValueError, match="Did you mean 'barks'"):
        make_config("smoke", source="barkss")


def test_a_name_is_taken_once(barks, register):
    taken = "'barks' is taken by .*bark_clips.*register .*other_clips under another"
    with pytest.raises(ValueError, match=taken):
        @register_source("barks")
        def other_clips(root):
            pass
    assert register_source("barks")(barks) is barks, "a function that is defined again replaces itself"


def test_problems_that_a_source_found_are_those_of_its_clips(register, noise, tmp_path):
    noise(tmp_path / "a.wav", 0.1)

    @register_source("found")
    def found_clips(root):
        problems = [Problem(1, "b", "weak match", "nothing fits"), Problem(2, "c", "ambiguous", "two files")]
        return clip_table(list("abc"), [str(root / "a.wav")] * 3, [["Rain"]] * 3, problems=problems)

    with pytest.raises(ValueError, match="1 of 3 clips cannot be used: 1 ambiguous"):
        read_clips("found", tmp_path)
    table = read_clips("found", tmp_path, on_problem="leave_out")
    assert table.clip_id.tolist() == ["a"] and "found" not in table.attrs
    assert [p["problem"] for p in table.attrs["problems"]] == ["weak match", "ambiguous"]
    with pytest.raises(ValueError, match="needs root="):
        read_clips("found")


def test_options_of_synth_are_those_of_its_function(ontology, tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    small = dict(ontology=ontology, n_eval=0, seconds=1.0, sample_rate=16000)
    assert read_clips("synth", n_train=1, **small).clip_id.tolist() == ["synth0-train-000000"]
    with pytest.raises(ValueError, match="Did you mean 'n_train'"):
        read_clips("synth", ontology=ontology, n_trian=1)


# ---- labels and sides -------------------------------------------------------------------------------------

def test_labels_become_classes_each_once(ontology):
    table = clip_table("abcd", [""] * 4, [("Rain", "/m/06mb1"), ("Dog", "Bark"), ("Rian", "Human voice"), ()])
    narrow, problems = resolve_labels(table, ontology, add_ancestors=False)
    wide, same = resolve_labels(table, ontology, add_ancestors=True)
    assert narrow[0] == ("/m/06mb1",) and [ontology.name(m) for m in narrow[1]] == ["Dog", "Bark"]
    assert [ontology.name(m) for m in wide[1]] == ["Dog", "Bark", "Animal", "Domestic animals, pets"]
    assert problems == same and narrow[2] == wide[3] == ()
    assert [(p.row, p.problem) for p in problems] == [(2, "unknown label")] * 2 + [(3, "no label")]
    assert "did you mean 'Rain'" in problems[0].detail and "not one of its 527" in problems[1].detail


def test_folds_and_unseen_classes(rows_of):
    table = rows_of([(f"r{i}", (f"m{i % 4}",)) for i in range(12)]).assign(fold=[1, 2, 3] * 4)
    training, evaluation = split_by_fold(table, 2)
    assert set(training.fold) == {1, 3} and set(evaluation.fold) == {2}
    unseen = pick_unseen(["m0", "m1", "m2", "m3"], 2, 0)
    training, evaluation = split_by_fold(table, 2, unseen)
    assert {m for m, in evaluation.mids} == set(unseen) and not {m for m, in training.mids} & set(unseen)
    with pytest.raises(ValueError, match="unknown fold '4'"):
        split_by_fold(table, 4)
    for n in (0, 4):
        with pytest.raises(ValueError, match="unseen must be 1 to 3 of these 4 classes"):
            pick_unseen(["m0", "m1", "m2", "m3"], n, 0)
