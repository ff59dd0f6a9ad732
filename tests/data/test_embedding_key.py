"""The key of cached embeddings holds all that an embedding depends on, and nothing else."""
import shutil

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from spa_lib.data import Clips, clip_table, embed_clips, embedding_key
from spa_lib.encoders import create_encoder

RATE = 16000


def write_clips(folder, seed=0):
    """Three clips of one length, and their table."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = {name: folder / f"{name}.wav" for name in ("a", "b", "c")}
    for path in paths.values():
        wavfile.write(path, RATE, rng.integers(-8000, 8000, 2 * RATE).astype(np.int16))
    labels = [("/m/09x0r",)] * 3
    return clip_table(list(paths), [str(path) for path in paths.values()], labels).assign(mids=labels)


@pytest.fixture
def table(tmp_path):
    return write_clips(tmp_path / "clips")


@pytest.fixture(scope="module")
def make_clips():
    from spa_lib.ontology import Ontology

    ontology = Ontology.audioset()

    def make(table, **options):
        given = dict(sample_rate=RATE, clip_seconds=1.0, crop="centre") | options
        return Clips(table, ontology, **given)

    return make


def make(name="psla", seed=0, **options):
    torch.manual_seed(seed)
    return create_encoder(name, size="tiny", **options)


def other_options(table):
    return {
        "another clip length of the front end": make(clip_seconds=1),
        "another padding": make(padding="0.7.1"),
        "other weights": make(seed=1),
        "another precision of the weights": make().bfloat16(),
    }


@pytest.mark.parametrize("change", other_options(None))
def test_another_psla_has_another_key(change, table, make_clips):
    clips = make_clips(table)
    assert embedding_key(other_options(table)[change], clips) != embedding_key(make(), clips)


@pytest.mark.parametrize("name, one, other", [
    ("mn", {}, dict(n_mels=64)), ("mn", {}, dict(hop=160)), ("ast", {}, dict(mean=-5.0)),
    ("ast", {}, dict(std=4.0)), ("passt", {}, dict(hop=160, clip_seconds=5.0)),
    ("psla", dict(front_end="paper"), dict(front_end="paper", clip_seconds=1.0)),
])
def test_options_that_no_weight_shows_are_in_the_key(name, one, other, table, make_clips):
    one, other = make(name, **one), make(name, **other)
    clips = make_clips(table, sample_rate=one.sample_rate)
    state = one.state_dict()
    if all(v.shape == state[k].shape for k, v in other.state_dict().items()):
        other.load_state_dict(state)
    assert embedding_key(one, clips) != embedding_key(other, clips)


@pytest.mark.parametrize("options", [
    dict(sample_rate=32000), dict(clip_seconds=1.5), dict(crop="start"), dict(pad="repeat"),
    dict(resampler="poly"), dict(min_seconds=0.5),
])
def test_what_makes_the_waveforms_is_in_the_key(options, table, make_clips):
    encoder = make()
    assert embedding_key(encoder, make_clips(table, **options)) != embedding_key(encoder, make_clips(table))


def test_the_content_of_a_clip_is_in_the_key_whatever_its_size(tmp_path, make_clips):
    encoder = make()
    first = embedding_key(encoder, make_clips(write_clips(tmp_path / "clips", seed=0)))
    second = embedding_key(encoder, make_clips(write_clips(tmp_path / "clips", seed=1))) # the same files
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "clips", moved)
    table = write_clips(tmp_path / "clips", seed=1)
    table["path"] = [str(moved / f"{name}.wav") for name in table.clip_id]
    assert first != second == embedding_key(encoder, make_clips(table))


def test_the_order_and_the_segments_are_in_the_key(table, make_clips):
    encoder = make()
    key = embedding_key(encoder, make_clips(table))
    assert embedding_key(encoder, make_clips(table[::-1])) != key
    assert embedding_key(encoder, make_clips(table.assign(start_seconds=0.5))) != key
    assert embedding_key(encoder, make_clips(table.assign(end_seconds=1.5))) != key


def test_labels_seeds_and_the_path_of_the_weights_are_not(table, make_clips, tmp_path):
    encoder = make()
    key = embedding_key(encoder, make_clips(table))
    assert embedding_key(encoder, make_clips(table, seed=7)) == key
    assert embedding_key(encoder, make_clips(table.assign(mids=[("/m/04rlf",)] * 3))) == key
    paths = [tmp_path / "x.pth", tmp_path / "y.pth"]
    for path in paths:
        torch.save(encoder.state_dict(), path)
    keys = {embedding_key(create_encoder("psla", checkpoint=path), make_clips(table)) for path in paths}
    assert len(keys) == 1
    encoder.train()
    assert embedding_key(encoder, make_clips(table)) == key # evaluation mode is what counts


def test_the_precision_of_the_computation_is_in_the_key(table, make_clips):
    encoder, clips = make(), make_clips(table)
    key = embedding_key(encoder, clips)
    with torch.autocast("cpu", torch.bfloat16):
        assert embedding_key(encoder, clips) != key
    assert embedding_key(encoder, clips, "cuda") != key
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert embedding_key(encoder, clips, "cuda") != embedding_key(encoder, clips) == key
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_the_code_is_in_the_key(table, make_clips, monkeypatch):
    encoder, clips = make(), make_clips(table)
    key = embedding_key(encoder, clips)

    class Other(type(encoder)):
        def pool(self, hidden):
            return hidden.amax(2)

    encoder.__class__ = Other
    assert embedding_key(encoder, clips) != key


def test_ten_seconds_and_one_are_not_read_from_one_file(table, make_clips, tmp_path, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    clips, one, ten = make_clips(table), make(clip_seconds=1), make(clip_seconds=10)
    ten.load_state_dict(one.state_dict())
    first = embed_clips(one, clips)
    assert torch.equal(embed_clips(one, clips), first) and not torch.equal(embed_clips(ten, clips), first)
    assert len(list((tmp_path / "cache" / "frozen").glob("*.npy"))) == 2
