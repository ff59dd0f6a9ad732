"""Clips as a dataset, and batches of them."""
import json
import logging
import pickle

import numpy as np
import pytest
import torch

from spa_lib.data import Batch, ClipError, Clips, WholeClips, batches, check_clips, load_waveform, targets


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


@pytest.fixture
def seven(tmp_path, noise, table_of):
    paths = [tmp_path / f"{i}.flac" for i in range(7)]
    for i, p in enumerate(paths):
        noise(p, 0.2 + 0.1 * i, seed=i)
    return table_of(paths)


def test_dataset(seven, ontology):
    clips = Clips(seven, ontology, 8000, 0.4, seed=5)
    assert len(clips) == 7 and clips.samples == 3200 and clips.mids == tuple(ontology.mids)
    for i in range(7):
        wave, index = clips[i]
        assert wave.shape == (3200,) and wave.dtype == torch.float32 and index == i
    assert np.array_equal(clips.targets, targets(seven, ontology))
    json.dumps(clips.policy)
    with pytest.raises(ValueError, match="not one sample"):
        Clips(seven, ontology, 8000, 0.00001)
    with pytest.raises(ValueError, match="Did you mean 'repeat'"):
        Clips(seven, ontology, 8000, 1, pad="repeated")


def test_class_order_is_stored(seven, ontology):
    small = ontology.subset(["/m/03m9d0z", "/m/06mb1"])
    clips = Clips(seven, small, 8000, 0.4)
    assert clips.mids == tuple(small.mids) and clips.targets[:, clips.mids.index("/m/06mb1")].all()


def test_cache_changes_nothing(seven, ontology):
    kept, read = (Clips(seven, ontology, 8000, 0.4, cache=c) for c in (True, False))
    for _ in range(2):
        assert all(torch.equal(kept[i][0], read[i][0]) for i in range(7))
    before = kept.load(6).copy()
    kept[6][0].zero_()
    assert np.array_equal(kept.load(6), before), "an item is a copy"
    size = sum(4 * round(8000 * (0.2 + 0.1 * i)) for i in range(7))
    assert kept.fill(progress=False) == size and read.fill(progress=False) == 0


def test_crop_depends_on_seed_epoch_and_index_alone(seven, ontology):
    def make(seed=0, epoch=0):
        clips = Clips(seven, ontology, 8000, 0.1, seed=seed)
        clips.set_epoch(epoch)
        return clips

    one, other = make(), make()
    forwards, backwards = [one[i][0] for i in range(7)], [other[i][0] for i in reversed(range(7))][::-1]
    assert all(torch.equal(x, y) for x, y in zip(forwards, backwards))
    np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(make()[6][0], forwards[6])
    assert not torch.equal(make(seed=1)[6][0], forwards[6])
    assert not torch.equal(make(epoch=1)[6][0], forwards[6])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [True, False])
def test_batches(seven, ontology, workers, cache):
    clips = Clips(seven, ontology, 8000, 0.1, cache=cache)
    order = np.array([6, 2, 2, 0, 5])
    plain = torch.stack([clips[i][0] for i in order])
    state = torch.get_rng_state()
    loader = batches(clips, 2, order, workers)
    found = list(loader)
    assert torch.equal(torch.get_rng_state(), state), "the global random state is left alone"
    assert len(loader) == 3 and [b.wave.shape[0] for b in found] == [2, 2, 1]
    assert {b.sample_rate for b in found} == {8000}
    assert torch.equal(torch.cat([b.wave for b in found]), plain)
    assert [i for b in found for i in b.clip_ids] == [str(i) for i in order]
    assert torch.equal(torch.cat([b.y for b in found]), torch.from_numpy(clips.targets[order]).float())
    clips.set_epoch(3)
    later = torch.cat([b.wave for b in loader])
    assert torch.equal(later, torch.stack([clips[i][0] for i in order])) and not torch.equal(later, plain)


def test_a_broken_clip_is_named_from_a_worker(seven, ontology, tmp_path):
    cut(tmp_path / "3.flac", 0.5)
    with pytest.raises(ClipError, match="clip '3': "):
        list(batches(Clips(seven, ontology, 8000, 0.1, cache=False), 2, workers=1))


def test_clips_travel_to_another_process(seven, ontology):
    clips = Clips(seven, ontology, 8000, 0.1)
    assert torch.equal(pickle.loads(pickle.dumps(clips))[6][0], clips[6][0])


def test_a_wrong_rate_is_an_error(seven, ontology):
    batch = next(iter(batches(Clips(seven, ontology, 8000, 0.1), 7)))
    assert isinstance(batch, Batch) and batch.wave_at(8000) is batch.wave
    with pytest.raises(ValueError, match="at 8000 Hz, not at 32000 Hz"):
        batch.wave_at(32000)


def test_whole_clips(seven):
    clips = WholeClips(seven, 8000)
    lengths = [len(clips.load(i)) for i in range(len(clips))]
    assert lengths == [round(8000 * (0.2 + 0.1 * i)) for i in range(7)]


@pytest.mark.parametrize("cache", [True, False])
def test_short_clips(tmp_path, ontology, cache, caplog, noise, table_of):
    paths = [tmp_path / f"{name}.wav" for name in ("long", "short", "other")]
    for i, (p, seconds) in enumerate(zip(paths, (1.0, 0.2, 1.0))):
        noise(p, seconds, seed=i)
    table = table_of(paths)
    with pytest.raises(ValueError, match=r"short: too short \(0.200 s of 0.5 s\)"):
        check_clips(table, min_seconds=0.5, progress=False)
    with pytest.raises(ClipError, match="clip 'short': too short"):
        Clips(table, ontology, 16000, 0.5, min_seconds=0.5, cache=cache)[1]
    with caplog.at_level(logging.WARNING, "spa_lib"):
        clips = Clips(table, ontology, 16000, 0.5, crop="start", on_problem="leave_out", cache=cache,
                      min_seconds=0.5)
    assert "left out 1 of 3 clips: 1 too short" in caplog.text
    assert clips.clip_ids == ["long", "other"] and len(clips.targets) == 2
    assert np.array_equal(clips[1][0], load_waveform(paths[2], 16000)[:8000])
