"""The listening test: what is drawn, what is kept whatever happens, what is refused, and what is scored."""
import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from spa_lib.ontology import Ontology
from spa_lib.perception import (
    ANSWER_COLUMNS,
    AnswersError,
    ListeningTest,
    Session,
    agreement,
    chance_consistency,
    check_name,
    choose_classes,
    class_differences,
    consistency,
    consistency_samples,
    consistency_table,
    draw_clips,
    draw_test,
    file_head,
    interval_of,
    is_simulated,
    make_test,
    read_participants,
    read_test,
    simulate_answers,
    split_halves,
    summary,
    trial_labels,
    trial_scores,
    votes,
)
from spa_lib.runs import Run, RunConfig

MIDS = Ontology.audioset().mids


def a_run(name, scores, targets, recordings=None):
    n, c = targets.shape
    ids = np.array([f"clip{i:03}" for i in range(n)])
    recordings = np.array(ids if recordings is None else recordings)
    metrics, log = {"clips_hash": "synthetic"}, pd.DataFrame()
    return Run(Path(name), RunConfig(), metrics, log, ids, np.array(MIDS[:c]), targets, scores, recordings)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 12)) < 0.15).astype(int)
    recordings = [f"r{i // 3}" for i in range(200)]
    noise = {"without": 0.6, "with": 0.7}
    return tuple(a_run(name, y + rng.normal(0, s, y.shape), y, recordings) for name, s in noise.items())


@pytest.fixture
def test(tmp_path):
    classes = ("/m/0bt9lr", "/m/02_41")
    trials = tuple((f"clip {k}, {m}", m) for m in classes for k in range(3))
    return ListeningTest(tmp_path, classes, ("Dog", "Fire"), trials, 0, {})


def one_class_test(folder, n, name="c{}"):
    """A test of n clips of one class."""
    trials = tuple((name.format(k), MIDS[0]) for k in range(n))
    return ListeningTest(folder, MIDS[:1], ("A",), trials, 0, {})


# choice and draw


def test_classes_are_chosen_by_the_mean_difference(pair):
    rng = np.random.default_rng(1)
    other = tuple(replace(r, scores=r.scores + rng.normal(0, 0.3, r.scores.shape)) for r in pair)

    def ap(run):
        return np.array([average_precision_score(run.targets[:, c], run.scores[:, c]) for c in range(12)])

    expected = np.mean([ap(b) - ap(a) for a, b in (pair, other)], 0)
    found = class_differences([pair, other])
    assert np.allclose(found.difference, expected)
    for n, direction, order in ((5, "either", -abs(expected)), (3, "gain", -expected), (3, "loss", expected)):
        chosen = choose_classes([pair, other], n, direction)
        assert list(chosen.index) == [MIDS[c] for c in np.argsort(order)[:n]]
    assert choose_classes([pair, other]).equals(choose_classes([pair, other], 5, "either"))


def test_runs_on_other_clips_or_classes_are_refused(pair):
    a, b = pair
    with pytest.raises(ValueError, match="with and without were not scored on the same clip_ids"):
        class_differences([(a, replace(b, clip_ids=b.clip_ids[::-1]))])
    with pytest.raises(ValueError, match="same mids"):
        draw_clips([(a, replace(b, mids=b.mids[::-1]))], MIDS[:1])
    with pytest.raises(ValueError, match="no pair of runs"):
        choose_classes([])


def test_the_pool_is_what_either_run_ranks_high(pair):
    m, c = MIDS[3], 3
    first = max(20, 2 * int(pair[0].targets[:, c].sum()))
    pool = {f"clip{i:03}" for r in pair for i in np.argsort(-r.scores[:, c], kind="stable")[:first]}
    drawn = [x for s in range(30) for x, _ in draw_clips([pair], [m], seed=s)]
    assert set(drawn) == pool
    assert len({x for s in range(60) for x, _ in draw_clips([pair], [m], seed=s, pool="any")}) > 190
    with pytest.raises(ValueError, match="200 clips to draw from, 201 were asked for"):
        draw_clips([pair], [m], per_class=201, pool="any")


def test_halves_share_no_recording_and_hold_their_parts(pair):
    one, other = split_halves(pair[0], seed=3)
    assert not set(pair[0].recordings[one]) & set(pair[0].recordings[other]) and len(one) + len(other) == 200
    drawn = draw_test([pair], "", seed=3, halves=True, per_class=10)
    assert {c for c, _ in drawn.trials} <= set(pair[0].clip_ids[other])
    assert drawn.classes == tuple(choose_classes([pair], rows=one).index)


def test_a_test_is_read_back_and_guards_its_answers(pair, tmp_path):
    made = make_test([pair], tmp_path / "a", seed=1)
    assert read_test(tmp_path / "a") == made and make_test([pair], tmp_path / "a", seed=1) == made
    with pytest.raises(ValueError, match="another listening test"):
        make_test([pair], tmp_path / "a", seed=2)
    path = tmp_path / "a" / "test.json"
    path.write_text(path.read_text().replace(made.trials[0][0], "clipX"))
    with pytest.raises(ValueError, match="was changed after it was made"):
        read_test(tmp_path / "a")


def test_orders_differ_between_people_and_stay_theirs(test):
    assert test.order("anna") == test.order("anna") and sorted(test.order("anna")) == list(range(6))
    assert len({tuple(test.order(f"p{k}")) for k in range(20)}) > 10
    first = [test.order(f"p{k}")[0] for k in range(600)]
    assert np.bincount(first).min() > 60


# answers are kept


OPINIONS = st.tuples(st.booleans(), st.integers(1, 5))
STEPS = st.one_of(st.just("undo"), st.just("restart"), OPINIONS)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_any_sequence_of_answers_undos_and_restarts_leaves_exactly_what_stands(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("steps")
    test = one_class_test(folder, 5)
    session, stands, undone, lines = Session(test, "anna"), {}, 0, 0
    for step in steps:
        if step == "restart":
            session = Session(test, "anna")
        elif step == "undo":
            expected = list(stands)[-1] if stands else None
            assert session.undo() == expected
            if stands:
                stands.popitem()
                undone, lines = undone + 1, lines + 1
        elif session.current is not None:
            assert session.current == next(t for t in session.order if t not in stands)
            stands[session.current] = step
            session.answer(session.current, *step, 1.0)
            lines += 1
    found = read_participants(test, [session.path])
    rows = zip(found["clip"], found.presence, found.confidence)
    assert [(int(c[1:]), bool(p), k) for c, p, k in rows] == [(t, *s) for t, s in stands.items()]
    assert found.attrs["undone"] == undone
    assert len(session.path.read_text().splitlines()) == 2 + lines, "an undone answer stays in the file"


WORKER = """
import sys
from spa_lib.perception import Session, read_test
test = read_test(sys.argv[1])
session = Session(test, sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
while session.current is not None:
    try:
        session.answer(session.current, True, 3, 1.0)
    except ValueError:
        continue
    print(len(session.answered), flush=True)
"""


def start(test, name):
    command = [sys.executable, "-c", WORKER, str(test.folder), name]
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    return p


def go(p):
    p.stdin.write("go\n")
    p.stdin.flush()


def test_processes_on_one_file_and_on_two_lose_and_repeat_nothing(pair, tmp_path):
    test = make_test([pair], tmp_path)
    workers = [start(test, name) for name in ("anna", "anna", "ben")]
    for p in workers:
        go(p)
    for p in workers:
        p.communicate(timeout=120)
    assert [p.returncode for p in workers] == [0, 0, 0]
    found = read_participants(test)
    assert found.participant.value_counts().to_dict() == {"anna": 100, "ben": 100}
    assert not found.duplicated(["participant", "clip", "class"]).any()


def test_a_kill_in_mid_test_loses_no_confirmed_answer(pair, tmp_path):
    test, confirmed = make_test([pair], tmp_path), 0
    for after in (3, 40, 77):
        p = start(test, "anna")
        go(p)
        while confirmed < after:
            confirmed = int(p.stdout.readline())
        os.kill(p.pid, signal.SIGKILL)
        p.wait()
        confirmed = max([confirmed, *map(int, p.stdout.read().split())])
        assert len(Session(test, "anna").answered) >= confirmed
    session = Session(test, "anna")
    while session.current is not None:
        session.answer(session.current, False, 2, 1.0)
    assert len(read_participants(test)) == 100


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_row_cut_off_anywhere_is_asked_again(test, cut):
    session = Session(test, "anna")
    first = session.current
    session.answer(first, True, 4, 1.0)
    whole = session.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    session.path.write_bytes(b"".join(lines[:2]) + lines[2][: -1 - cut])
    again = Session(test, "anna")
    assert again.current == first
    again.answer(first, False, 5, 2.0)
    assert Session(test, "anna").answered[first]["confidence"] == "5"
    found = read_participants(test, on_problem="leave_out")
    assert len(found) == 1 and [p["reason"] for p in found.attrs["problems"]] in (["the row is cut off"], [])


def test_a_disk_that_refuses_is_no_answer(test, monkeypatch):
    session = Session(test, "anna")
    first, before, fsync = session.current, session.path.read_text(), os.fsync

    def full(handle):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        session.answer(first, True, 4, 1.0)
    assert session.current == first and session.path.read_text() == before
    monkeypatch.setattr(os, "fsync", fsync)
    session.answer(first, False, 2, 1.0)  # as the panel asks for
    assert len(session.path.read_text().splitlines()) == len(before.splitlines()) + 1


def test_names_are_fit_for_files(test):
    assert check_name(" Blue-Owl ") == "blue-owl"
    for bad in ("", "../anna", "a b", "a/b", "é", "x" * 33, "simulated-1"):
        with pytest.raises(ValueError, match="cannot be used"):
            check_name(bad)


def test_answers_out_of_range_are_refused(test):
    session = Session(test, "anna")
    for confidence in (0, 6, 2.5, "x"):
        with pytest.raises(ValueError, match="not 1 to 5"):
            session.answer(session.current, True, confidence, 1.0)
    assert session.undo() is None and session.path.read_text() == file_head(test)


# broken files


def lines_of(test, trial=0, **changed):
    clip, mid = test.trials[trial]
    values = ("carl", clip, mid, "1", "4", "2.0", "2026-01-31T12:00:00Z", "answer")
    return dict(zip(ANSWER_COLUMNS, values)) | changed


def write(path, test, rows, head=None, columns=ANSWER_COLUMNS):
    with open(path, "w", newline="") as f:
        f.write(file_head(test).splitlines()[0] + "\n" if head is None else head)
        w = csv.DictWriter(f, columns, extrasaction="ignore", lineterminator="\n")
        w.writeheader()
        w.writerows(rows)
    return path


BROKEN = {
    "unknown clip": (dict(clip="nowhere"), "row 4: unknown clip 'nowhere'"),
    "unknown class": (dict([("class", "/m/none")]), "row 4: unknown class '/m/none'"),
    "not asked": (dict([("class", "/m/02_41")]), "row 4: the test does not ask for '/m/02_41' in clip"),
    "confidence 6": (dict(confidence="6"), "row 4: confidence is '6', not 1 to 5"),
    "confidence empty": (dict(confidence=""), "row 4: confidence is '', not 1 to 5"),
    "presence": (dict(presence="yes"), "row 4: presence is 'yes', not 0 or 1"),
    "seconds": (dict(seconds="-1"), "row 4: seconds is '-1'"),
    "seconds nan": (dict(seconds="nan"), "row 4: seconds is 'nan'"),
    "time": (dict(time="31.1.2026"), "row 4: time is '31.1.2026'"),
    "nobody": (dict(participant=""), "row 4: no participant"),
    "event": (dict(event="guess"), "row 4: unknown event 'guess'"),
    "undo": (dict(event="undo"), "row 4: undoes an answer that does not stand"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_named_with_its_reason(test, tmp_path, name):
    changed, message = BROKEN[name]
    rows = [lines_of(test, 2), lines_of(test, 1, **changed), lines_of(test, 0)]
    path = write(tmp_path / "carl.csv", test, rows)
    with pytest.raises(AnswersError) as e:
        read_participants(test, [path])
    assert f"carl.csv, {message}" in str(e.value) and len(e.value.problems) == 1
    found = read_participants(test, [path], on_problem="leave_out")
    assert len(found) == 2 and found.attrs["problems"] == e.value.problems


def test_a_double_answer_is_named_with_the_first_one(test, tmp_path):
    a = write(tmp_path / "a.csv", test, [lines_of(test, 0), lines_of(test, 0, presence="0")])
    with pytest.raises(AnswersError, match=r"a.csv, row 4: double answer: carl .* \(a.csv, row 3\)"):
        read_participants(test, [a])
    b = write(tmp_path / "b.csv", test, [lines_of(test, 0)])
    with pytest.raises(AnswersError, match=r"b.csv, row 3: double answer: carl .* \(c.csv, row 3\)"):
        read_participants(test, [write(tmp_path / "c.csv", test, [lines_of(test, 0)]), b])
    assert read_participants(test, [a], on_problem="leave_out").presence.tolist() == [1]


def test_a_broken_head_is_named(test, tmp_path):
    rows = [lines_of(test)]
    swapped = f"# listening test {test.id}, classes {' '.join(test.classes[::-1])}\n"
    another = f"# listening test 0123, classes {' '.join(test.classes)}\n"
    other_order = "the classes are in another order: number 1 is /m/02_41, in the test it is /m/0bt9lr"
    few = [c for c in ANSWER_COLUMNS if c not in ("confidence", "time")]
    cases = {
        f"row 1: {other_order}": dict(head=swapped),
        "row 1: these are answers to another test, 0123": dict(head=another),
        "row 1: the first line does not name the listening test": dict(head=""),
        "row 2: missing column confidence, time": dict(columns=few),
        "row 2: unknown column mood": dict(columns=[*ANSWER_COLUMNS, "mood"]),
    }
    for message, broken in cases.items():
        path = write(tmp_path / "x.csv", test, rows, **broken)
        with pytest.raises(AnswersError) as e:
            read_participants(test, [path])
        assert f"x.csv, {message}" in str(e.value)
        assert len(read_participants(test, [path], on_problem="leave_out")) == 0
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(AnswersError, match="empty.csv, row 1"):
        read_participants(test, [tmp_path / "empty.csv"])


def test_columns_may_stand_in_another_order_and_lines_may_end_otherwise(test, tmp_path):
    rows = [lines_of(test, k) for k in range(6)]
    path = write(tmp_path / "x.csv", test, rows, columns=ANSWER_COLUMNS[::-1])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    found = read_participants(test, [path])
    assert list(zip(found["clip"], found["class"])) == list(test.trials)


def test_a_damaged_file_is_not_written_to(test):
    session = Session(test, "anna")
    session.path.write_text(file_head(test) + "anna,nonsense,x,1,4,1,2026-01-31T12:00:00Z,answer\n")
    before = session.path.read_bytes()
    with pytest.raises(AnswersError, match="row 3: unknown class"):
        Session(test, "anna")
    with pytest.raises(AnswersError):
        session.answer(0, True, 3, 1.0)
    assert session.path.read_bytes() == before


# scores


def heard(test, opinions, confidence=5):
    """Answers as a table, from a string of 0, 1 and blanks for each participant."""
    rows = [
        (name, *trial, int(opinion), confidence)
        for name, row in opinions.items()
        for trial, opinion in zip(test.trials, row)
        if opinion in "01"
    ]
    return pd.DataFrame(rows, columns=["participant", "clip", "class", "presence", "confidence"])


def test_table_3_by_hand(tmp_path):
    """Two classes, four clips each, four people; every number below was computed on paper."""
    d, f = MIDS[0], MIDS[1]
    ids = np.array([f"clip{i:03}" for i in range(8)])
    test = ListeningTest(tmp_path, (d, f), ("A", "B"), tuple(zip(ids, [d] * 4 + [f] * 4)), 0, {})
    opinions = {"p": "11001000", "q": "11001100", "r": "10011011", "s": "01010010"}
    # votes, present of 4: A: 3 3 0 2; B: 3 1 2 1 -> A: 1 1 0 tie; B: 1 0 tie 0
    answers = heard(test, opinions, 4)
    v = votes(answers, test)
    assert v.present.tolist() == [3, 3, 0, 2, 3, 1, 2, 1] and v.agreeing.tolist() == [3, 3, 4, 2, 3, 3, 2, 3]
    assert np.array_equal(v.y_human, [1, 1, 0, np.nan, 1, 0, np.nan, 0], equal_nan=True)
    targets = np.zeros((8, 2), int)
    targets[[0, 2], 0] = 1
    targets[[5, 6], 1] = 1
    without = np.zeros((8, 2))
    without[:4, 0] = [0.9, 0.1, 0.5, 0.8]  # A: (1/1 + 2/3)/2 = 5/6
    without[4:, 1] = [0.2, 0.9, 0.8, 0.7]  # B: 1/3
    with_spa = np.zeros((8, 2))
    with_spa[:4, 0] = [0.9, 0.8, 0.5, 0.1]  # A: 1
    with_spa[4:, 1] = [0.5, 0.5, 0.1, 0.4]  # B: tie of one right and one wrong: 1/2
    pair = a_run("without", without, targets), a_run("with", with_spa, targets)
    # labels: A: {1, 3} named, one right of two, then 2/3: 1/2*1/2 + 1/2*2/3 = 7/12
    #         B: {6} named, wrong; then 1/3
    table = consistency_table(answers, test, {"x": [pair]}, n=50)
    assert np.isclose(table.loc["x", "without"], 100 * (5 / 6 + 1 / 3) / 2)
    assert np.isclose(table.loc["x", "with"], 100 * (1 + 1 / 2) / 2)
    assert np.isclose(table.loc["x", "change"], 100 * (3 / 4 - 7 / 12))
    assert np.isclose(table.loc["audioset_labels", "without"], 100 * (7 / 12 + 1 / 3) / 2)
    for row, column in (("x", "without"), ("x", "with"), ("audioset_labels", "without")):  # with its interval
        assert table.loc[row, f"{column}_low"] < table.loc[row, column] < table.loc[row, f"{column}_high"]
    counts = summary(answers, test, trial_labels(pair[0], test))
    expected = dict(participants=4, trials=8, consistent=6, present=3, labelled=4, confidence=4.0)
    assert {k: counts[k] for k in expected} == expected
    # people one by one, without SPA
    # class A: p, q {1,2}: ranks 1, 4: 3/4; r {1,4}: 1; s {2,4}: ranks 4, 2: 1/2
    # class B: p {5}: 1/4; q {5,6}: ranks 4, 1: 3/4; r {5,7,8}: ranks 4, 2, 3: (1/2 + 2/3 + 3/4)/3; s {7}: 1/2
    r_in_b = (1 / 2 + 2 / 3 + 3 / 4) / 3
    each = [(3 / 4 + 1 / 4) / 2, (3 / 4 + 3 / 4) / 2, (1 + r_in_b) / 2, (1 / 2 + 1 / 2) / 2]
    of_people = consistency(answers, test, trial_scores(pair[0], test), per="participant")
    assert np.isclose(of_people, np.mean(each))


def test_ties_and_missing_answers(tmp_path):
    test = one_class_test(tmp_path, 3)
    answers = heard(test, {"p": "11 ", "q": "00 "})
    answers.loc[answers.participant == "q", "confidence"] = [2, 5]
    v = votes(answers, test)
    assert v.y_human.isna().all() and v.raters.tolist() == [2, 2, 0] and np.isnan(v.confidence[2])
    assert np.array_equal(votes(answers, test, "confidence").y_human, [1, np.nan, np.nan], equal_nan=True)
    assert np.isnan(consistency(answers, test, [0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="rule for ties"):
        votes(answers, test, "coin")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_consistency_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = MIDS[:3]
    trials = tuple((f"c{k}", m) for m in classes for k in range(9))
    test = ListeningTest(Path("."), classes, ("A", "B", "C"), trials, 0, {})
    answers = heard(test, {p: "".join(rng.choice(["0", "1", " "], 27, p=[0.4, 0.5, 0.1])) for p in "wxyz"})
    scores, y = rng.integers(0, 5, 27) / 4, votes(answers, test).y_human.to_numpy()
    per_class = []
    for k in range(3):
        rows = np.flatnonzero(~np.isnan(y[9 * k : 9 * k + 9])) + 9 * k
        if y[rows].any():
            per_class.append(average_precision_score(y[rows], scores[rows]))
    expected = np.mean(per_class) if per_class else np.nan
    assert np.isclose(consistency(answers, test, scores), expected, equal_nan=True)


def test_bootstrap_draws_are_shared_and_replicates_are_what_they_say(tmp_path):
    rng = np.random.default_rng(0)
    test = one_class_test(tmp_path, 40)
    truth = rng.random(40) < 0.5
    answers = read_participants(test, simulate_answers(test, truth, tmp_path / "simulated", seed=1))
    scores = truth + rng.normal(0, 1, 40)
    S = consistency_samples(answers, test, [scores, scores, -scores], 400)
    assert np.array_equal(S[:, 0], S[:, 1]) and np.isclose(S[0, 0], consistency(answers, test, scores))
    still = consistency_samples(answers, test, [scores], 20, over=())
    assert np.allclose(still, still[0])
    clips, raters, both = (
        consistency_samples(answers, test, [scores], 400, over=over)[1:].std()
        for over in (("clips",), ("raters",), ("clips", "raters"))
    )
    assert 0 < raters < clips and both > 0.9 * clips
    gap = interval_of(S[:, 0] - S[:, 2])
    assert gap.low < gap.value < gap.high and np.isclose(gap.value, S[0, 0] - S[0, 2])


def test_intervals_cover_a_true_difference(tmp_path):
    """95 % intervals over clips and raters hold the difference of a large sample in about 95 % of cases."""
    rng, inside = np.random.default_rng(5), 0

    def study(n):
        test = one_class_test(tmp_path, n)
        truth = rng.random(n) < 0.5
        opinions = {}
        for r in range(5):
            right = rng.random(n) < 0.85
            opinions[f"p{r}"] = "".join("01"[int(o)] for o in truth == right)
        return heard(test, opinions), test, [truth + rng.normal(0, s, n) for s in (0.5, 1.0)]

    answers, test, scores = study(20_000)
    true = consistency(answers, test, scores[0]) - consistency(answers, test, scores[1])
    for _ in range(100):
        answers, test, scores = study(60)
        S = consistency_samples(answers, test, scores, 200)
        gap = interval_of(S[:, 0] - S[:, 1])
        inside += gap.low <= true <= gap.high
    assert 87 <= inside <= 100


def test_chance_is_the_expected_score_of_random_outputs(tmp_path):
    test = one_class_test(tmp_path, 20)
    answers = heard(test, {p: "1" * 14 + "0" * 6 for p in "wxyz"})
    H = np.sum(1 / np.arange(1, 21))
    assert abs(chance_consistency(answers, test, 3000) - (13 / 19 + H / 20 * (1 - 13 / 19))) < 0.005


def test_agreement_is_krippendorffs(tmp_path):
    krippendorff = pytest.importorskip("krippendorff")
    test = one_class_test(tmp_path, 12)
    # the worked example of a 2 x 10 binary table in Krippendorff (2011): 14 zeros, 6 ones, 4 disagreements
    answers = heard(test, {"p": "0100000010  ", "q": "1110010000  "})
    assert np.isclose(agreement(answers, test), 1 - 19 * 4 / (14 * 6))
    assert np.isnan(agreement(heard(test, {"p": "1" * 12, "q": "1" * 12}), test))
    assert krippendorff.__name__


def test_scores_are_looked_up_by_name(pair, tmp_path):
    test = make_test([pair], tmp_path)
    mixed = np.random.default_rng(0).permutation(200)
    run = pair[0]
    other = replace(
        run,
        clip_ids=run.clip_ids[mixed],
        mids=run.mids[::-1],
        scores=run.scores[mixed][:, ::-1],
        targets=run.targets[mixed][:, ::-1],
    )
    assert np.array_equal(trial_scores(other, test), trial_scores(run, test))
    assert np.array_equal(trial_labels(other, test), trial_labels(run, test))
    with pytest.raises(ValueError, match="was not scored on the class"):
        trial_scores(replace(run, mids=np.array(MIDS[100:112])), test)


def test_simulated_answers_say_so(test, tmp_path):
    files = simulate_answers(test, [True] * 6, tmp_path / "s", raters=3, accuracy=1.0)
    assert [f.name for f in files] == ["simulated-1.csv", "simulated-2.csv", "simulated-3.csv"]
    found = read_participants(test, files)
    assert is_simulated(found) and (found.presence == 1).all()
    session = Session(test, "anna")
    session.answer(session.current, True, 3, 1.0)
    assert not is_simulated(read_participants(test))


# the panel, without a browser


@pytest.fixture
def panel(tmp_path):
    """A panel on a test of four clips; nobody has given a name."""
    pytest.importorskip("ipywidgets", reason="the panel needs ipywidgets: pip install 'spa_lib[listening]'")
    from spa_lib.perception import Panel, demo_test

    return Panel(demo_test(tmp_path, n_classes=2, per_class=2))


def press(*buttons):
    for button in buttons:
        button.click()


def test_the_panel_ignores_presses_that_come_too_early_or_twice(panel):
    panel.start.click()
    assert "type a name" in panel.status.value
    panel.name.value = "anna"
    press(panel.start, panel.yes, panel.confidence[3], panel.undo)
    assert not panel.session.answered and panel.yes.disabled and panel.confidence[1].disabled
    panel.play.click()
    assert not panel.yes.disabled and panel.confidence[1].disabled
    press(panel.no, panel.yes, panel.confidence[3], panel.confidence[3])
    assert [r["presence"] for r in panel.session.answered.values()] == ["1"]
    other = type(panel)(panel.test)
    other.name.value = "anna"
    other.start.click()
    assert other.start.description == "Go on"
    assert "There are answers under the name <b>anna</b>" in other.status.value
    other.name.value = "ben"
    assert other.start.description == "Start"
    other.name.value = "anna"
    press(other.start, other.start)
    assert other.session is None, "a double click is no reply to the question"
    time.sleep(0.8)
    other.start.click()
    for p in (panel, other):  # the same question in two windows
        press(p.play, p.no)
    press(panel.confidence[1], other.confidence[5])
    assert "another window" in other.status.value and other.trial == panel.trial
    assert len(read_participants(panel.test)) == 2


def test_the_panel_does_not_skip_an_answer_that_was_not_saved(panel, monkeypatch):
    panel.name.value = "anna"
    press(panel.start, panel.play, panel.yes)
    trial = panel.trial
    with monkeypatch.context() as m:
        m.setattr(os, "write", lambda handle, data: 3)
        panel.confidence[4].click()
    assert "could not be saved" in panel.status.value and panel.trial == trial and panel.heard is True
    panel.confidence[4].click()
    assert "Saved" in panel.status.value and len(read_participants(panel.test)) == 1
    panel.test.sound(panel.test.trials[panel.trial][0]).unlink()
    panel.play.click()
    assert "cannot be played" in panel.status.value and panel.yes.disabled


def test_the_demonstration_of_another_version_keeps_its_folder(tmp_path, monkeypatch):
    from spa_lib.perception import demo_test

    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    first, other = demo_test(), demo_test(per_class=3)
    assert first.folder != other.folder and demo_test().folder == first.folder
