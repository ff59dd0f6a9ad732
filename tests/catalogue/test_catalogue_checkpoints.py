"""Files of weights as people have them: cut, damaged, of another kind, with another name, with code."""

import json
import pickle
import shutil
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from spa_lib.encoders import CHECKPOINTS, CheckpointError, create_encoder, encoder_names, read_checkpoint
from spa_lib.encoders.checkpoints import find_checkpoint
from spa_lib.utils import sha256_of

OK = 0
TINY = {name: create_encoder(name, size="tiny").state_dict() for name in ("mn", "ast")}


class Attack:
    """A pickle that would make a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def whole(folder, name="mine.pt", encoder="mn"):
    torch.save(TINY[encoder], folder / name)
    return folder / name


def tensors(folder, name="mine.safetensors"):
    safetensors.torch.save_file(TINY["mn"], folder / name)
    return folder / name


def written(content, name="mine.pt"):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut(make, share):
    def of(folder):
        path = make(folder)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return of


def flipped(make, n=64):
    """n bytes in the middle are others."""

    def of(folder):
        path = make(folder)
        data = bytearray(path.read_bytes())
        at = len(data) // 2
        data[at : at + n] = bytes(b ^ 0xFF for b in data[at : at + n])
        path.write_bytes(bytes(data))
        return path

    return of


def saved(content, name="mine.pt"):
    def make(folder):
        torch.save(content(folder) if callable(content) else content, folder / name)
        return folder / name

    return make


def pickled(folder):
    (folder / "mine.pt").write_bytes(pickle.dumps({"model": Attack(folder / "attacked")}))
    return folder / "mine.pt"


def zip_of(**files):
    def make(folder):
        with zipfile.ZipFile(folder / "mine.pt", "w") as z:
            for name, content in files.items():
                z.writestr(name, content)
        return folder / "mine.pt"

    return make


def path_that_leads_out(folder):
    with zipfile.ZipFile(folder / "mine.pt", "w") as z:
        z.writestr("../../attacked", "x")
        z.writestr("archive/data.pkl", pickle.dumps({}))
    return folder / "mine.pt"


def hugging_face(folder, config="{}", fill=tensors):
    fill(folder, "model.safetensors")
    (folder / "config.json").write_text(config)
    return folder


def in_folder(**how):
    return lambda folder: hugging_face(folder, **how)


# what it is | how it is made | the encoder and its size | what comes of it | what must be said
ROWS = [
    ("a file of one's own", whole, OK, "read"),
    ("the same as safetensors", tensors, OK, "read"),
    ("with any suffix", lambda f: whole(f, "mine.weights"), OK, "read"),
    ("inside `model`", saved({"model": TINY["mn"]}), OK, "read"),
    ("inside `state_dict`, with a number", saved({"epoch": 3, "state_dict": TINY["mn"]}), OK, "read"),
    ("from DataParallel", saved({f"module.{k}": v for k, v in TINY["mn"].items()}), OK, "read"),
    ("from torch.compile", saved({f"_orig_mod.{k}": v for k, v in TINY["mn"].items()}), OK, "read"),
    ("of another encoder", lambda f: whole(f, encoder="ast"), CheckpointError, "these are ast's keys"),
    ("no file", lambda f: f / "no.pt", FileNotFoundError, "no file"),
    ("an empty file", written(b""), CheckpointError, "is empty"),
    ("a web page", written(b"<!DOCTYPE html><html></html>"), CheckpointError, "is a web page"),
    (
        "a git-lfs pointer",
        written(b"version https://git-lfs.github.com/spec/v1\noid"),
        CheckpointError,
        "git-lfs pointer",
    ),
    ("a text", written(b"weights"), CheckpointError, "is neither a zip archive nor a pickle nor safetensors"),
    ("half of it", cut(whole, 0.5), CheckpointError, "is cut off after"),
    ("all but its end", cut(whole, 0.999), CheckpointError, "is cut off after"),
    ("half of it, as safetensors", cut(tensors, 0.5), CheckpointError, "is cut off after"),
    ("a tenth of it, as safetensors", cut(tensors, 0.01), CheckpointError, "is cut off after"),
    ("64 other bytes in the middle", flipped(whole), OK, "is damaged in"),
    (
        "a header of safetensors that is no JSON",
        written(b"\x08\0\0\0\0\0\0\0{1234567"),
        CheckpointError,
        "header that cannot be read",
    ),
    (
        "a zip archive of nothing",
        zip_of(),
        CheckpointError,
        "mine.pt is a zip archive, but none of torch.save: it holds nothing",
    ),
    (
        "a zip archive of a text",
        zip_of(a="x"),
        CheckpointError,
        "mine.pt is a zip archive, but none of torch.save: it holds a",
    ),
    ("a list", saved([1, 2]), CheckpointError, "holds a list, not a dict of tensors"),
    ("a number", saved(3), CheckpointError, "holds a int, not a dict of tensors"),
    (
        "a dict without tensors",
        saved({"epoch": 3}),
        CheckpointError,
        "mine.pt holds no tensor, only 'epoch': save the module",
    ),
    ("an empty dict", saved({}), CheckpointError, "mine.pt holds no tensor, only nothing"),
    (
        "the whole module",
        saved(lambda f: create_encoder("mn", size="tiny")),
        CheckpointError,
        "holds a spa_lib.encoders.mn.MN, not a dict of tensors",
    ),
    ("an optimizer beside it", saved({"model": TINY["mn"], "optimizer": {"state": {}}}), OK, "read"),
    ("a tensor too few", saved(OrderedDict(list(TINY["mn"].items())[3:])), CheckpointError, "missing"),
    (
        "a tensor too many",
        saved(TINY["mn"] | {"more": torch.zeros(3)}),
        CheckpointError,
        "1 unexpected: more",
    ),
    (
        "a tensor of another shape",
        saved(TINY["mn"] | {k: v[:1] for k, v in list(TINY["mn"].items())[:1]}),
        CheckpointError,
        "mis-shaped",
    ),
    (
        "code in a pickle",
        pickled,
        CheckpointError,
        "mine.pt cannot be read as a checkpoint with weights_only=True: it is no pickle of tensors",
    ),
    (
        "code in an archive",
        saved(lambda f: {"model": Attack(f / "attacked")}),
        CheckpointError,
        "mine.pt holds no tensor, only 'model'",
    ),
    (
        "a path that leads out",
        path_that_leads_out,
        CheckpointError,
        "mine.pt is a zip archive, but none of torch.save: it holds ../../attacked",
    ),
    ("a folder of Hugging Face", in_folder(), OK, "read"),
    ("its config.json is no JSON", in_folder(config="{"), CheckpointError, "config.json is no JSON"),
    ("its config.json is a list", in_folder(config="[]"), CheckpointError, "holds a list, not an object"),
    (
        "its weights are cut",
        in_folder(fill=lambda f, n: cut(lambda g: tensors(g, n), 0.5)(f)),
        CheckpointError,
        "is cut off after",
    ),
    ("an empty folder", lambda f: f, FileNotFoundError, "holds no model.safetensors and no"),
]


@pytest.mark.parametrize("what, make, outcome, sentence", ROWS, ids=[row[0] for row in ROWS])
def test_file(what, make, outcome, sentence, tmp_path, meets):
    path = make(tmp_path)

    def call():
        create_encoder("mn", size="tiny", checkpoint=path)
        return "read"

    meets(call, outcome, sentence)
    if isinstance(outcome, type):
        meets(call, outcome, path.name)
    assert not list(tmp_path.parent.rglob("attacked")), "code was run"


# what is asked for | encoder, and what is given as its checkpoint | outcome | what must be said
NAMES = [
    ("a name of another encoder", ("mn", "Cnn14"), ValueError, "'Cnn14' is a checkpoint of panns, not of mn"),
    ("a name of mn for ast", ("ast", "mn04_as"), ValueError, "create_encoder('mn', checkpoint='mn04_as')"),
    ("a misspelt name", ("mn", "mn4_as"), ValueError, "Did you mean 'mn40_as'?"),
    (
        "the file of a name that is not here",
        ("mn", "mn04_as_mAP_432.pt"),
        FileNotFoundError,
        "checkpoint='mn04_as' downloads it",
    ),
    ("a name that is no name", ("mn", "the best"), ValueError, "unknown checkpoint for mn"),
]


@pytest.mark.parametrize("what, given, outcome, sentence", NAMES, ids=[row[0] for row in NAMES])
def test_name(what, given, outcome, sentence, meets, monkeypatch):
    """Nothing is downloaded to find out."""
    monkeypatch.setattr(
        "spa_lib.encoders.checkpoints.download", lambda *a, **k: pytest.fail("it was downloaded")
    )
    meets(lambda: find_checkpoint(*given), outcome, sentence)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A made-up file that is published as mn04_as."""
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    row = CHECKPOINTS["mn04_as"]
    path = whole(tmp_path, row.file)
    monkeypatch.setitem(CHECKPOINTS, "mn04_as", replace(row, sha256=sha256_of(path)))
    return path


def test_a_known_file_with_other_bytes_is_named(published, meets):
    """64 flipped bytes loaded without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_checkpoint("mn", published).released == "mn04_as"
    right = sha256_of(published)
    torch.save({k: v + 1 for k, v in TINY["mn"].items()}, published)
    with pytest.warns(UserWarning, match="published as mn04_as") as caught:
        found = find_checkpoint("mn", published)
    assert (
        found.released is None and right in str(caught[0].message) and found.sha256 in str(caught[0].message)
    )


def test_a_file_is_compared_with_what_was_recorded_of_it(tmp_path, monkeypatch):
    path = whole(tmp_path)
    Path(f"{path}.sha256").write_text(f"{'0' * 64}  mine.pt\n")
    with pytest.warns(UserWarning, match=f"{'0' * 64} is recorded beside it"):
        find_checkpoint("mn", path)


@pytest.mark.parametrize("name", encoder_names())
def test_every_encoder_refuses_what_it_has_no_place_for(name, meets):
    meets(lambda: create_encoder(name, size="hugee"), ValueError, f"unknown size of {name} 'hugee'")
    meets(lambda: create_encoder(name, size="tiny", clip_second=3), (ValueError, TypeError)[0], "clip_second")
    meets(lambda: create_encoder(name, size="tiny").embed(torch.zeros(2, 0)), ValueError, "")


# what it is | the waveforms | outcome | what must be said
WAVES = [
    ("two clips", torch.randn(2, 16000), OK, "[2, 96]"),
    ("one clip without its axis", torch.randn(16000), ValueError, "[B, samples]"),
    (
        "two channels",
        torch.randn(2, 2, 16000),
        ValueError,
        "[B, samples], got (2, 2, 16000). A single clip is wave[None]; mix channels down to one",
    ),
    ("nothing", torch.zeros(2, 0), ValueError, "needs at least 400 samples (0.025 s at 16000 Hz), got 0"),
    ("int16", torch.ones(2, 16000, dtype=torch.int16), ValueError, "For int16 samples: wave.float()/32768"),
]


@pytest.mark.parametrize("what, wave, outcome, sentence", WAVES, ids=[row[0] for row in WAVES])
def test_wave(what, wave, outcome, sentence, meets):
    encoder = create_encoder("ast", size="tiny")
    meets(lambda: list(encoder.embed(wave).shape), outcome, sentence)


def test_a_rate_that_is_not_the_encoders(meets):
    encoder = create_encoder("mn", size="tiny")
    meets(
        lambda: encoder.embed(torch.zeros(1, 16000), 16000), ValueError, "takes 32000 Hz, the wave has 16000"
    )


def test_read_checkpoint_names_the_file(tmp_path, meets):
    shutil.copy(whole(tmp_path), tmp_path / "other.ckpt")
    assert set(read_checkpoint(tmp_path / "other.ckpt")) == set(TINY["mn"])
    (tmp_path / "x.json").write_text(json.dumps({}))
    meets(lambda: read_checkpoint(tmp_path / "x.json"), CheckpointError, "x.json")
