"""Files as frameworks and broken downloads leave them: read, or refused by path with what is wrong."""
import collections
import os
import pathlib
import pickle
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch

from spa_lib.encoders import CHECKPOINTS, CheckpointError, create_encoder, read_checkpoint
from spa_lib.encoders.checkpoints import check_file, find_checkpoint, released_as
from spa_lib.utils import sha256_of

POINTER = pathlib.Path(__file__).parent / "hf_pointer" / "model.safetensors"


class AttributeDict(dict): # as Lightning keeps hyperparameters
    pass


class Attributed(collections.OrderedDict):
    def __init__(self, *args):
        super().__init__(*args)
        self.note = "kept with an attribute"


class Callbacks(list):
    pass


class Network(torch.nn.Linear):
    pass


WEIGHTS = {"net.w": torch.ones(2), "net.b": torch.zeros(3)}


def lightning_file(state):
    """What Lightning's `ModelCheckpoint` writes beside the tensors, in kind."""
    return {
        "epoch": 3, "global_step": 1200, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "hyper_parameters": AttributeDict(lr=1e-3, model=AttributeDict(width=64), path=pathlib.Path("x")),
        "callbacks": Callbacks(["best", AttributeDict(score=0.5)]),
        "loops": collections.defaultdict(list, fit=[1, 2]), "losses": collections.deque([0.1, 0.2], 5),
        "seen": {"a", "b"}, "frozen": frozenset([1]), "range": range(3), "attributed": Attributed([("a", 1)]),
        "counts": collections.Counter("ab"),
    }


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kind", [dict, AttributeDict, collections.OrderedDict, Attributed])
def test_a_lightning_checkpoint_is_read(kind, is_zip, tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(lightning_file(kind(WEIGHTS)), path, _use_new_zipfile_serialization=is_zip)
    state = read_checkpoint(path)
    assert list(state) == ["net.w", "net.b"] and torch.equal(state["net.w"], torch.ones(2))


@pytest.mark.parametrize("whole", [AttributeDict(WEIGHTS), Attributed(WEIGHTS)])
def test_the_outermost_dict_may_be_of_any_class(whole, tmp_path):
    torch.save(whole, tmp_path / "x.pt")
    assert list(read_checkpoint(tmp_path / "x.pt")) == ["net.w", "net.b"]


def test_a_whole_module_is_refused_by_its_class(tmp_path):
    torch.save(Network(2, 3), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="x.pt.*Network.*state_dict") as error:
        read_checkpoint(tmp_path / "x.pt")
    assert "truncated" not in str(error.value)


class Deleted:
    def __reduce__(self):
        return os.remove, (Deleted.path,)


def test_what_is_not_read_is_not_called_truncated(tmp_path):
    Deleted.path = str(tmp_path / "victim")
    pathlib.Path(Deleted.path).touch()
    torch.save({"state_dict": WEIGHTS, "x": Deleted()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="x.pt.*posix") as error:
        read_checkpoint(tmp_path / "x.pt")
    assert "download" not in str(error.value) and pathlib.Path(Deleted.path).exists()


# --- what is wrong with a file ------------------------------------------------------------------------------
@pytest.fixture
def whole(tmp_path):
    """The same tensors as a zip archive, a pickle, and safetensors."""
    from safetensors.torch import save_file

    torch.save(WEIGHTS, tmp_path / "zip.pt")
    torch.save(WEIGHTS, tmp_path / "pickle.pt", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path


def broken_files(folder):
    """Name of a file -> its bytes, and what the message says."""
    zipped, safe = (folder / "zip.pt").read_bytes(), (folder / "model.safetensors").read_bytes()
    pointer, page = POINTER.read_bytes(), b"<!DOCTYPE html><html>Sign in</html>"
    long_header = (10 ** 6).to_bytes(8, "little") + b'{"a": 1}'
    return [
        ("a.pt", pointer, "git-lfs"), ("a.safetensors", pointer, "git-lfs"), ("b.pt", b"", "empty"),
        ("b.safetensors", b"", "empty"), ("c.pt", page, "web page"), ("c.safetensors", page, "web page"),
        ("d.pt", zipped[:-100], "cut off"), ("d.bin", zipped[:100], "cut off"),
        ("e.safetensors", safe[:-3], f"cut off.*{len(safe) - 3:,} of {len(safe):,}"),
        ("e.pt", safe[:4], "neither"), ("f.safetensors", long_header, "cut off"),
        ("g.safetensors", safe + b"more", "safetensors"), ("h.pt", b"RIFF....WAVE", "neither"),
    ]


def test_a_broken_file_is_refused_by_its_path(whole):
    for name, content, message in broken_files(whole):
        path = whole / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"(?s){name}.*{message}"):
            read_checkpoint(path)


def test_a_whole_file_is_read_whatever_it_is_called(whole):
    for source in ("zip.pt", "pickle.pt", "model.safetensors"):
        check_file(whole / source)
        for name in ("x.pt", "x.safetensors", "x.bin"):
            shutil.copy(whole / source, whole / name)
            assert list(read_checkpoint(whole / name)) == ["net.w", "net.b"] or source == "model.safetensors"
            assert set(read_checkpoint(whole / name)) == {"net.w", "net.b"}


def test_a_folder_with_a_pointer_names_the_file(tmp_path):
    shutil.copytree(POINTER.parent, tmp_path / "folder")
    with pytest.raises(CheckpointError, match="folder/model.safetensors.*git-lfs.*git lfs pull"):
        create_encoder("ast", checkpoint=tmp_path / "folder")


def test_a_bit_that_fell_over_is_found_when_a_file_is_checked(whole):
    path = whole / "zip.pt"
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
        at = archive.getinfo(name).header_offset + 200 # behind the local header and its padding
    content = bytearray(path.read_bytes())
    at = content.index(torch.ones(2).numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="zip.pt.*data/0"):
        check_file(path)


# --- digests of files that have none published --------------------------------------------------------------
@pytest.fixture
def local_release(tmp_path, monkeypatch, tiny):
    """A released file that lies on this machine, and the cache that it goes to."""
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    name = "mn10_as_mels_64"
    source = tmp_path / "source" / CHECKPOINTS[name].file
    source.parent.mkdir()
    torch.save(tiny("mn").state_dict(), source)
    row = replace(CHECKPOINTS[name], url=source.as_uri(), sha256=None, bytes=None)
    monkeypatch.setitem(CHECKPOINTS, name, row)
    return name, source


def test_the_digest_is_recorded_at_first_use_and_compared_later(local_release, tiny):
    name, source = local_release
    found = find_checkpoint("mn", name)
    record = found.path.with_name(found.path.name + ".sha256")
    assert record.read_text().split() == [sha256_of(source), found.path.name]
    assert find_checkpoint("mn", name) == found
    torch.save(tiny("mn", seed=1).state_dict(), found.path)
    with pytest.raises(ValueError, match=f"{found.path}.*{found.sha256}.*Delete"):
        find_checkpoint("mn", name)
    found.path.unlink()
    assert find_checkpoint("mn", name) == found


def test_a_cut_file_of_an_earlier_version_is_not_recorded(local_release):
    name, source = local_release
    path = find_checkpoint("mn", name).path
    path.with_name(path.name + ".sha256").write_text("") # as if it had never been looked at
    path.write_bytes(source.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="cut off"):
        find_checkpoint("mn", name)


def test_a_copy_under_another_name_is_known_by_the_recorded_digest(local_release, tmp_path):
    name, source = local_release
    copy = shutil.copy(source, tmp_path / "mine.pt")
    assert released_as("mn", copy, sha256_of(copy)) is None
    find_checkpoint("mn", name)
    assert create_encoder("mn", checkpoint=copy).front_end.n_mels == 64


def test_a_page_in_place_of_a_release_is_not_kept(local_release):
    name, source = local_release
    source.write_bytes(b"<html>Too many requests</html>")
    with pytest.raises(CheckpointError, match=f"{name}.*web page"):
        find_checkpoint("mn", name)
    assert not [path for path in pathlib.Path(os.environ["SPA_LIB_CACHE"]).rglob("*") if path.is_file()]


def test_a_size_that_differs_from_the_published_one_is_refused(local_release, monkeypatch):
    name, source = local_release
    monkeypatch.setitem(CHECKPOINTS, name, replace(CHECKPOINTS[name], bytes=17))
    with pytest.raises(ValueError, match="17"):
        find_checkpoint("mn", name)


def test_a_pickle_that_torch_did_not_write_is_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="x.pt"):
        read_checkpoint(tmp_path / "x.pt")
