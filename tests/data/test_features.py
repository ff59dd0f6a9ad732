"""AudioSet's released features: the file format, a release read once, clips of frames."""
import io
import json
import tarfile

import numpy as np
import pytest
import torch

from spa_lib.data import (
    FeatureClip,
    FrameClips,
    batches,
    compare_with_list,
    feature_record,
    locate_features,
    read_clips,
    read_feature_clip,
    read_records,
    read_segments,
    repeated_clips,
    unpack_features,
)
from spa_lib.data import features as module
from spa_lib.ontology import Ontology
from spa_lib.runs import make_config
from spa_lib.train import train

SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {} # Python 3.11 has it from 3.11.4 on

MIDS = Ontology.audioset().mids


def clip(video_id, labels=(0,), n_frames=10, seed=0):
    frames = np.random.default_rng(seed).integers(0, 256, (n_frames, 128), np.uint8)
    return FeatureClip(video_id, 30.0, 40.0, labels, frames.tobytes())


def some_clips(n, start, labels=6):
    def one(k):
        return clip(f"id{start + k:09d}", (k % labels, 20 + k % 3), 10 - (k % 7 == 0), start + k)

    return [one(k) for k in range(n)]


@pytest.fixture
def sets():
    """Set -> file -> clips, of a small release."""
    train_clips, evaluation = some_clips(40, 0), some_clips(20, 1000)
    train_clips.append(train_clips[3]._replace(video_id="twice------"))
    train_clips.append(evaluation[0]._replace(video_id="leaks------"))
    in_files = {f"{n:02d}": train_clips[n::4] for n in range(4)}
    return {"bal_train": in_files, "eval": {"00": evaluation[:12], "zz": evaluation[12:]}}


def write_archive(path, sets):
    with tarfile.open(path, "w:gz") as tar:
        for set_name, files in sets.items():
            for name, clips in files.items():
                data = clips if isinstance(clips, bytes) else b"".join(map(feature_record, clips))
                header = tarfile.TarInfo(f"audioset_v1_embeddings/{set_name}/{name}.tfrecord")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return path


@pytest.fixture
def archive(tmp_path, sets, monkeypatch):
    # two archives of the same second have the same bytes, and are one release to the cache
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    return write_archive(tmp_path / "features.tar.gz", sets)


# --- the file format ----------------------------------------------------------------------------------------
def test_a_record_comes_back():
    clips = some_clips(5, 0)
    data = b"".join(map(feature_record, clips))
    assert [read_feature_clip(record) for record in read_records(data, "x")] == clips


def test_every_damaged_byte_is_found():
    data = feature_record(clip("00vYncpl0pk"))
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 0x10
        with pytest.raises(ValueError, match="^eval/00.tfrecord is (damaged|cut short)"):
            list(read_records(bytes(broken), "eval/00.tfrecord"))


def test_every_cut_is_found():
    data = feature_record(clip("00vYncpl0pk"))
    for end in range(1, len(data), 11):
        with pytest.raises(ValueError, match="x is cut short"):
            list(read_records(data[:end], "x"))


def test_what_is_no_feature_is_named():
    with pytest.raises(ValueError, match="has a frame of 100 bytes instead of 128"):
        (record,) = read_records(feature_record(clip("00vYncpl0pk")._replace(frames=b"x" * 228)), "x")
        read_feature_clip(record)
    with pytest.raises(ValueError, match="no 'video_id'"):
        read_feature_clip(b"")


# --- a release ----------------------------------------------------------------------------------------------
def test_an_archive_and_what_it_contains_are_the_same_clips(archive, tmp_path):
    from_archive = read_clips("audioset_features", archive, on_problem="leave_out")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "x", **SAFELY)
    from_folder = read_clips("audioset_features", tmp_path / "x", on_problem="leave_out")
    columns = ["clip_id", "mids", "split", "recording", "start_seconds", "end_seconds"]
    assert from_archive[columns].equals(from_folder[columns])
    assert (from_archive.split == "train").sum() == 42 and (from_archive.split == "eval").sum() == 20
    ontology = Ontology.audioset()
    a, b = (FrameClips(t, ontology) for t in (from_archive, from_folder))
    assert (a.read(range(62)) == b.read(range(62))).all()


def test_frames_are_those_of_the_file(archive, sets):
    table = read_clips("audioset_features", archive)
    by_id = {c.video_id: c for files in sets.values() for clips in files.values() for c in clips}
    found = FrameClips(table, Ontology.audioset())
    for i, clip_id in enumerate(table.clip_id):
        true = np.frombuffer(by_id[clip_id].frames, np.uint8).reshape(-1, 128)
        frames, _ = found[i]
        assert (frames[:len(true)].numpy() == true).all() and (frames[len(true):] == -1).all()
        assert table.mids[i] == tuple(MIDS[c] for c in by_id[clip_id].labels)


def test_batches_hold_the_clips_of_their_rows(archive):
    clips = FrameClips(read_clips("audioset_features", archive), Ontology.audioset())
    (first, *_) = batches(clips, 8, order=[5, 60, 1, 7, 8, 9, 2, 0])
    assert first.wave.shape == (8, 10, 128) and first.wave.dtype == torch.int16
    assert (first.wave[1] == clips[60][0]).all() and first.clip_ids[1] == clips.clip_ids[60]
    assert (first.y.sum(1) == 2).all()


def test_longer_clips_are_cut_and_shorter_ones_filled(archive):
    table = read_clips("audioset_features", archive)
    assert FrameClips(table, Ontology.audioset(), clip_seconds=5.0).frames == 5
    long = FrameClips(table, Ontology.audioset(), clip_seconds=20.0)
    assert long.frames == 20 and (long.read([0, 30])[:, 10:] == -1).all()


@pytest.mark.parametrize("archived", [True, False])
def test_a_damaged_file_is_named(sets, tmp_path, archived):
    data = bytearray(b"".join(map(feature_record, sets["eval"]["zz"])))
    data[1000] ^= 1
    path = write_archive(tmp_path / "features.tar.gz", sets | {"eval": {"zz": bytes(data)}})
    if not archived:
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "x", **SAFELY)
        path = tmp_path / "x"
    with pytest.raises(ValueError, match=r"eval/zz.tfrecord is damaged: the record at byte .*Fetch"):
        read_clips("audioset_features", path)


def test_an_archive_that_was_cut_short_is_named(archive):
    data = archive.read_bytes()
    archive.write_bytes(data[:len(data)*2//3])
    with pytest.raises(ValueError, match="features.tar.gz is damaged or cut short, after .* files"):
        read_clips("audioset_features", archive)


def test_another_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "features.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("README"), io.BytesIO())
    with pytest.raises(ValueError, match="holds no folder of bal_train, unbal_train, eval"):
        read_clips("audioset_features", tmp_path)


def test_a_part_of_the_release_is_said(archive, caplog):
    read_clips("audioset_features", archive)
    assert "eval has 20 clips, the official list 20371" in caplog.text


def test_what_is_absent_is_said(tmp_path, archive):
    with pytest.raises(FileNotFoundError, match="no features.tar.gz"):
        read_clips("audioset_features", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="has no set 'unbal_train', only bal_train, eval"):
        read_clips("audioset_features", archive, train_set="unbalanced")
    with pytest.raises(ValueError, match="train_set.*balanced"):
        read_clips("audioset_features", archive, train_set="balancd")


def test_a_killed_reading_goes_on(archive, tmp_path, monkeypatch):
    release = locate_features(archive)
    whole = unpack_features(release, tmp_path / "whole", progress=False)
    monkeypatch.setattr(module, "_KEEP_EVERY", 2)
    read, seen = module._clips_of, []

    def killed(file, release):
        seen.append(file.name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return read(file, release)

    monkeypatch.setattr(module, "_clips_of", killed)
    with pytest.raises(KeyboardInterrupt):
        unpack_features(release, tmp_path / "killed", progress=False)
    with open(tmp_path / "killed" / "bal_train.frames", "ab") as f:
        f.write(b"what was not noted down")
    again = unpack_features(release, tmp_path / "killed", progress=False)
    left = ["bal_train/02", "bal_train/03", "eval/00", "eval/zz"]
    assert seen[4:] == [f"{name}.tfrecord" for name in left]
    for name in ("bal_train.frames", "bal_train.csv", "eval.frames", "eval.csv", "release.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert not (again / "progress.json").exists()


def test_repeated_and_leaking_clips_are_named(archive):
    table = read_clips("audioset_features", archive)
    training = table[table.split == "train"]
    assert repeated_clips(training).values.tolist() == [["twice------", "id000000003"]]
    cfg = make_config("features", root=str(archive), on_leak="refuse", size="tiny")
    with pytest.raises(ValueError, match="1 of 42 training clips are on the evaluation side too"):
        train(cfg, archive.parent / "runs", progress=False)


def test_the_official_list(archive, tmp_path):
    table = read_clips("audioset_features", archive)
    evaluation = table[table.split == "eval"]
    lines = [f'{row.clip_id}, 30.000, 40.000, "{",".join(row.mids)}"' for row in evaluation.itertuples()]
    lines[2] = lines[2].replace(evaluation.mids.iloc[2][0], "/m/04rlf")
    lines[5] = lines[5].replace(evaluation.clip_id.iloc[5], "not there -")
    (tmp_path / "eval_segments.csv").write_text("\n".join(lines))
    found = compare_with_list(evaluation, read_segments(tmp_path / "eval_segments.csv"))
    assert found == {"missing": ["not there -"], "unlisted": [evaluation.clip_id.iloc[5]],
                     "other labels": [evaluation.clip_id.iloc[2]]}


# --- a run --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("more", [
    dict(alpha=0.0), dict(alpha=0.1), dict(alpha=0.0, soft_targets="texts"),
    dict(alpha=0.0, soft_targets="ancestors"),
    dict(alpha=0.0, soft_targets="permuted", size="multi-level", encoder_options="width=32 heads=4"),
])
def test_a_run_on_features(archive, tmp_path, more):
    cfg = make_config("features", **(dict(root=str(archive), size="tiny", epochs=1, batch_size=16) | more))
    run = train(cfg, tmp_path / "runs", progress=False)
    assert run.scores.shape == (20, len(run.mids)) and np.isfinite(run.scores).all()
    assert train(cfg, tmp_path / "runs", progress=False).metrics == run.metrics


def test_waveforms_and_frames_are_not_mixed_up(archive):
    with pytest.raises(ValueError, match="of released features, and the encoder 'ast' takes waveforms"):
        make_config("features", root=str(archive), encoder="ast", encoder_options="")
    with pytest.raises(ValueError, match="takes frames"):
        make_config("demo", encoder="vggish")
    with pytest.raises(ValueError, match="set mixup_rate=0"):
        make_config("features", root=str(archive), mixup_rate=0.5)


# --- the real release ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_release_itself(shared, tmp_path):
    release = locate_features(shared / "data" / "audioset_features")
    folder = unpack_features(release, tmp_path, progress=False)
    assert json.loads((folder / "release.json").read_text())["clips"] == {"bal_train": 22160, "eval": 20371}
    ontology = Ontology.audioset()
    table = read_clips("audioset_features", release)
    for split, name, short, repeated in [("train", "balanced_train", 378, 23), ("eval", "eval", 395, 40)]:
        side = table[table.split == split]
        official = read_segments(shared / "data" / "audioset_meta" / f"{name}_segments.csv")
        assert compare_with_list(side, official) == {"missing": [], "unlisted": [], "other labels": []}
        clips = FrameClips(side, ontology)
        assert (clips.count < 10).sum() == short and clips.count.max() == 10
        assert len(repeated_clips(side)) == repeated
