"""What `spa_runs` says of folders as people have them: copied, renamed, cut, edited, mixed up."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from spa_lib.cli import spa_runs

OK = 0


def text(file, content):
    return lambda run: (run / file).write_text(content)


def raw(file, content):
    return lambda run: (run / file).write_bytes(content)


def cut(file, share):
    """Only the first part of a file is there."""

    def damage(run):
        whole = (run / file).read_bytes()
        (run / file).write_bytes(whole[: int(len(whole) * share)])

    return damage


def flip(file, share):
    """Sixteen bytes in the middle are others."""

    def damage(run):
        data = bytearray((run / file).read_bytes())
        at = int(len(data) * share)
        data[at : at + 16] = bytes(b ^ 0xFF for b in data[at : at + 16])
        (run / file).write_bytes(bytes(data))

    return damage


def without(file):
    return lambda run: (run / file).unlink()


def edited(file, **values):
    """A json file with other values; None takes a name away."""

    def damage(run):
        content = json.loads((run / file).read_text()) | values
        content = {name: value for name, value in content.items() if value is not None}
        (run / file).write_text(json.dumps(content))

    return damage


def arrays(**changes):
    """`scores.npz` with arrays changed by functions; None takes an array away."""

    def damage(run):
        with np.load(run / "scores.npz") as z:
            found = dict(z)
        for name, change in changes.items():
            found[name] = change(found[name]) if change else None
        np.savez(run / "scores.npz", **{name: array for name, array in found.items() if array is not None})

    return damage


class Attack:
    """A pickle that would make a file where it is unpickled."""

    def __reduce__(self):
        return (open, ("attacked", "w"))


def with_code(run):
    """An array of objects, which numpy keeps as a pickle."""
    arrays(scores=lambda s: np.full(s.shape, Attack(), dtype=object))(run)


def with_first(value):
    """An array whose first element is this."""

    def change(array):
        array = array.astype(np.float32)
        array.flat[0] = value
        return array

    return change


def copied(name):
    return lambda run: shutil.copytree(run, run.parent / name)


def renamed(name):
    return lambda run: run.rename(run.parent / name)


def copied_and_edited(run):
    """A copy with results of its own."""
    shutil.copytree(run, run.parent / "of another machine")
    edited("metrics.json", clips_hash="other")(run.parent / "of another machine")
    arrays(scores=lambda s: s)(run.parent / "of another machine")


# what is done to one of two runs | exit status | what must be said
ROWS = [
    ("nothing", lambda run: None, OK, "Finished runs in"),
    ("copied beside itself", copied("backup"), OK, "backup is a copy of ast-tiny"),
    ("copied under a name that sorts first", copied("a copy"), OK, "the run counts once"),
    ("renamed", renamed("best"), OK, "best: the folder does not have the name of the run in it"),
    ("copied, the copy of other clips", copied_and_edited, OK, "holds other results of the same parameters"),
    ("an unfinished run beside it", without("metrics.json"), OK, "Finished runs in"),
    ("a file beside the run folders", lambda run: (run.parent / "notes.txt").write_text("x"), OK, "Finished"),
    ("an empty folder beside it", lambda run: (run.parent / "empty").mkdir(), OK, "Finished runs in"),
    ("config.json is lost", without("config.json"), 1, "there is no config.json. Put it back, or delete"),
    ("config.json is empty", text("config.json", ""), 1, "config.json cannot be read (JSONDecodeError"),
    ("config.json is cut", cut("config.json", 0.5), 1, "config.json cannot be read (JSONDecodeError"),
    ("config.json is a list", text("config.json", "[1]"), 1, "it holds a list, not an object"),
    ("config.json is not text", raw("config.json", b"\xff\xfe\x00"), 1, "UnicodeDecodeError"),
    ("config.json was edited", edited("config.json", epochs=99), 1, "changed since"),
    ("config.json has an unknown field", edited("config.json", epoch=3), 1, "Did you mean 'epochs'?"),
    ("config.json without its hash", edited("config.json", config_hash=None), 1, "changed since"),
    (
        "config.json without local",
        edited("config.json", local=None),
        1,
        "config.json cannot be read (KeyError",
    ),
    ("metrics.json is empty", text("metrics.json", ""), 1, "metrics.json cannot be read (JSONDecodeError"),
    ("metrics.json is cut", cut("metrics.json", 0.6), 1, "delete"),
    ("metrics.json is a number", text("metrics.json", "3"), 1, "it holds a int, not an object"),
    ("metrics.json is {}", text("metrics.json", "{}"), 1, "metrics.json cannot be read (KeyError"),
    (
        "metrics.json of another run",
        edited("metrics.json", config_hash="0123456789"),
        1,
        "made with (0123456789)",
    ),
    ("metrics.json without mAP", edited("metrics.json", mAP=None), 1, "states mAP None"),
    ("metrics.json with mAP 54", edited("metrics.json", mAP=dict(value=54.0)), 1, "states mAP 54.0"),
    (
        "metrics.json with another mAP",
        edited("metrics.json", mAP=dict(value=0.123)),
        1,
        "its metrics.json says 0.1230",
    ),
    ("scores.npz is lost", without("scores.npz"), 1, "there is no scores.npz"),
    ("scores.npz is empty", text("scores.npz", ""), 1, "scores.npz cannot be read (BadZipFile"),
    ("scores.npz is cut in half", cut("scores.npz", 0.5), 1, "scores.npz cannot be read (BadZipFile"),
    ("scores.npz is cut at its end", cut("scores.npz", 0.97), 1, "python -m spa_lib.train"),
    ("scores.npz has other bytes", flip("scores.npz", 0.5), 1, "scores.npz cannot be read"),
    ("scores.npz is a text", text("scores.npz", "scores"), 1, "scores.npz cannot be read (BadZipFile"),
    ("scores.npz without scores", arrays(scores=None), 1, "scores.npz cannot be read (KeyError"),
    ("scores.npz without recordings", arrays(recordings=None), 1, "scores.npz cannot be read (KeyError"),
    ("a score is nan", arrays(scores=with_first(np.nan)), 1, "1 of 512 scores in scores.npz are not finite"),
    ("a score is infinite", arrays(scores=with_first(np.inf)), 1, "are not finite"),
    ("all scores are nan", arrays(scores=lambda s: s * np.nan), 1, "512 of 512 scores"),
    ("scores of another run", arrays(scores=lambda s: s[::-1]), 1, "the two files are not of one run"),
    ("scores are all equal", arrays(scores=np.zeros_like), 1, "the two files are not of one run"),
    ("fewer classes than scores", arrays(mids=lambda m: m[:-1]), 1, "for 64 clips and 7 classes"),
    ("fewer clips than scores", arrays(clip_ids=lambda m: m[:-1]), 1, "for 63 clips and 8 classes"),
    ("fewer targets than scores", arrays(targets=lambda y: y[:-1]), 1, "(63, 8) targets"),
    ("scores in one row", arrays(scores=np.ravel), 1, "holds (512,) scores"),
    ("code in scores.npz", with_code, 1, "Object arrays cannot be loaded when allow_pickle=False"),
    ("targets of 2", arrays(targets=lambda y: 2 * y), 1, "targets must be 0 or 1"),
    ("no positive target", arrays(targets=np.zeros_like), 1, "no class can be scored"),
    ("log.csv is empty", text("log.csv", ""), 1, "log.csv cannot be read (EmptyDataError"),
    ("log.csv is not text", raw("log.csv", b"\xff\xfe\x00\xd8"), 1, "log.csv cannot be read"),
    ("log.csv is lost", lambda run: None, OK, "Finished runs in"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory, write_run):
    """Three finished runs; the first is the one to damage."""
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder, 0, 0.1), write_run(folder, 1, 0.1), write_run(folder, 1)]


@pytest.mark.parametrize("what, damage, outcome, sentence", ROWS, ids=[row[0] for row in ROWS])
def test_run_folder(what, damage, outcome, sentence, tmp_path, written, meets):
    """The damaged run is named, and the others are shown."""
    runs = [shutil.copytree(run, tmp_path / run.name) for run in written]
    damage(runs[0])
    shown = []

    def call():
        try:
            spa_runs([str(tmp_path)])
        except SystemExit as e:
            shown.append(str(e))
            raise

    meets(call, outcome, sentence)
    assert not Path("attacked").exists(), "code was run"
    assert all(runs[0].name in message for message in shown)


def test_a_copy_is_no_second_seed(tmp_path, write_run, capsys):
    """`cp -r run backup` made "seeds 2" and an interval of width 0."""
    for alpha in (0.0, 0.1):
        run = write_run(tmp_path, 0, alpha)
        shutil.copytree(run, tmp_path / f"backup of {alpha}")
    spa_runs([str(tmp_path)])
    rows = capsys.readouterr().out.splitlines()
    (row,) = [row for row in rows if " OmAP " in row and "concat" in row]
    assert row.split()[5:7] == ["1", "OmAP"] and "nan" not in row.lower()
