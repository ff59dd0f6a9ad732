"""Shards: packed, killed, damaged, read over http; small files made here, and real clips where they lie."""
import io
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from spa_lib.data import (
    SHARD_RANGE,
    ClipError,
    Clips,
    batches,
    check_clips,
    clip_list_hash,
    clip_size,
    clip_table,
    decode_clip,
    encode,
    load_waveform,
    pack,
    read_clips,
    read_index,
    read_shard_range,
    shard_table,
    verify,
)
from spa_lib.runs import Trainer, epoch_order, make_config
from spa_lib.train import train

soundfile = pytest.importorskip("soundfile", reason="shards are written with soundfile")
LABELS = ("/m/06mb1", "/m/03m9d0z", "/m/0bt9lr", "/m/068hy", "/m/0jbk")
RATE = 16000


def noise(seed, seconds=0.25):
    return np.random.default_rng(seed).integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)


def loose(folder, n_train=40, n_eval=10, seconds=0.25):
    """A folder in AudioSet's layout: clips of noise, one or two labels each."""
    (folder / "clips").mkdir(parents=True)
    for split, n in (("train", n_train), ("eval", n_eval)):
        lines = []
        for i in range(n):
            soundfile.write(folder / "clips" / f"{split}{i}.wav", noise(1000 * len(split) + i, seconds), RATE)
            lines.append(f'{split}{i}, 0.0, 10.0, "{",".join(sorted({LABELS[i % 5], LABELS[i * i % 3]}))}"')
        (folder / f"{split}_segments.csv").write_text("# made up\n" + "\n".join(lines) + "\n")
    return read_clips("audioset", folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return loose(tmp_path_factory.mktemp("loose"))


@pytest.fixture(scope="module")
def packed(table, tmp_path_factory):
    """Read only: a test that breaks shards copies them."""
    folder = tmp_path_factory.mktemp("packed")
    pack(table, folder, clips_per_shard=8, progress=False)
    return folder


@pytest.fixture
def mine(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "mine"))


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.name != ".lock"}


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# ---- coding -----------------------------------------------------------------------------------------------

def test_flac_keeps_16_bits_and_writes_the_same_bytes_twice():
    wave = noise(0, 1).astype(np.float32) / 32768
    data = encode(wave, RATE)
    back, rate = decode_clip(io.BytesIO(data))
    assert rate == RATE and np.array_equal(back, wave) and encode(wave, RATE) == data
    assert len(encode(wave, RATE, quality=1.0)) <= len(encode(wave, RATE, quality=0.0))
    loud = np.array([1.5, -1.5, 1, -1], np.float32)
    assert decode_clip(io.BytesIO(encode(loud, RATE)))[0].tolist() == [32767 / 32768, -1, 32767 / 32768, -1]


@pytest.mark.parametrize("codec", ["flac", "wav", "vorbis", "opus"])
def test_corpora_packed_by_earlier_versions_are_read(root, codec):
    """Two tones of 0.3 s, packed by version 0.2 before its lossy codecs went."""
    folder = root / "tests" / "data" / "packed_before" / codec
    assert read_index(folder)["codec"] == codec and verify(folder, progress=False).clips.tolist() == [2]
    table = read_clips("shards", folder)
    assert table.clip_id.tolist() == ["tone0", "tone1"]
    assert table.mids.tolist() == [("/m/06mb1",), ("/m/03m9d0z",)]
    assert clip_list_hash(table) == "593b908e82bf5e3bdd65e2d713a1231d56f92bb82fa99f38fcf2369b85e96a40"
    for path, hertz in zip(table.path, (440, 660)):
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(2400) / 8000)
        wave = load_waveform(path, 8000)
        assert len(wave) == 2400 and np.corrcoef(wave, tone)[0, 1] > 0.99
        assert codec in ("vorbis", "opus") or np.abs(wave - tone).max() < 1 / 32768


def test_a_packing_begun_by_an_earlier_version_is_completed(root, tmp_path):
    folder = Path(shutil.copytree(root / "tests" / "data" / "packed_before" / "flac", tmp_path / "flac"))
    before = contents(folder)
    tones = clip_table(["tone0", "tone1"], ["", ""], [["/m/06mb1"], ["/m/03m9d0z"]], fold=[1, 2],
                       recording=["r0", "r1"])
    pack(tones, folder, progress=False)
    assert contents(folder) == before


@pytest.mark.parametrize("wrong, message", [
    (dict(codec="opus"), "flac"),
    (dict(codec="mp3"), "flac"),
    (dict(clips_per_shard=0), "at least 1"),
    (dict(codec="as is", sample_rate=8000), "whole files"),
    (dict(on_problem="leave"), "leave_out"),
])
def test_pack_refuses_before_it_writes(table, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        pack(table, tmp_path / "out", progress=False, **wrong)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="twice"):
        pack(pd.concat([table, table[:1]]), tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="no clip"):
        pack(table[:0], tmp_path / "out", progress=False)


# ---- packing and reading ----------------------------------------------------------------------------------

@pytest.mark.parametrize("how", [dict(codec="flac"), dict(codec="as is")], ids=lambda h: h["codec"])
def test_shards_give_what_loose_files_give(table, ontology, tmp_path, how):
    index = pack(table, tmp_path, clips_per_shard=8, progress=False, **how)
    there = read_clips("shards", tmp_path, ontology)
    assert clip_list_hash(there) == clip_list_hash(table) == index["clips_hash"]
    assert there.drop(columns="path").equals(table.drop(columns="path"))
    options = dict(ontology=ontology, sample_rate=RATE, clip_seconds=0.1, seed=5, cache=False)
    a, b = Clips(table, **options), Clips(there, **options)
    a.set_epoch(2), b.set_epoch(2)
    order = epoch_order(a.targets, 2, 5, True, 30, "weighted-with")
    for x, y in zip(batches(a, 7, order), batches(b, 7, order, workers=1), strict=True):
        assert x.clip_ids == y.clip_ids and torch.equal(x.wave, y.wave) and torch.equal(x.y, y.y)
    assert check_clips(there, progress=False).equals(there)


def test_index_says_what_is_there(packed, table):
    index = read_index(packed)
    assert index["clips"] == 50 and index["splits"] == {"eval": 10, "train": 40}
    assert index["seconds"] == pytest.approx(12.5)
    assert index["labels"] == table.mids.explode().value_counts().to_dict() and index["problems"] == []
    sizes = {s["shard"]: s["clips"] for s in index["shards"]}
    assert sizes == {f"eval-{n:06d}.tar": 5 for n in range(2)} | {f"train-{n:06d}.tar": 8 for n in range(5)}
    assert verify(packed, progress=False).clips.sum() == 50
    there = shard_table(packed)
    for path, size in zip(there.path, map(clip_size, there.path)):
        assert len(read_shard_range(path)) == size
    per_shard = there[there.split == "train"].groupby(there.path.str.split("#").str[0]).row.apply(list)
    for rows in per_shard:
        assert rows != sorted(rows, reverse=True) and max(np.diff(sorted(rows))) > 1, "a mixture in each"


def test_tar_is_what_other_tools_read(packed, table):
    with tarfile.open(packed / "train-000000.tar") as tar:
        members = tar.getmembers()
        for audio, labels in zip(members[::2], members[1::2], strict=True):
            assert audio.mtime == audio.uid == 0 and Path(audio.name).stem == Path(labels.name).stem
            clip, row = json.load(tar.extractfile(labels)), int(Path(audio.name).stem)
            assert clip["clip_id"] == table.clip_id[row] and tuple(clip["mids"]) == table.mids[row]
            assert soundfile.info(io.BytesIO(tar.extractfile(audio).read())).frames == 4000
    wds = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted(packed.glob("train-*.tar"))]
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode())
    assert sorted(s["json"]["clip_id"] for s in samples) == sorted(table.clip_id[table.split == "train"])


def test_any_clip_id_may_be_packed(table, tmp_path, ontology):
    odd = table[:6].assign(clip_id=["a.b.c", "__x__", "ü/../y", "-Cup 'o' tea", "z" * 300, "a.b"])
    pack(odd, tmp_path, progress=False)
    assert read_clips("shards", tmp_path, ontology).clip_id.tolist() == odd.clip_id.tolist()
    assert all(map(read_shard_range, read_clips("shards", tmp_path, ontology).path))


def test_other_rates_segments_and_folds(table, tmp_path, ontology):
    cut = table[:10].assign(start_seconds=0.05, end_seconds=0.15, fold=[1, 2] * 5)
    pack(cut, tmp_path, sample_rate=8000, progress=False)
    there = read_clips("shards", tmp_path, ontology, eval_fold=2)
    assert there.split.tolist() == ["train", "eval"] * 5 and there.start_seconds.isna().all()
    wave, rate = decode_clip(there.path[0])
    assert rate == 8000 and len(wave) == 800
    assert np.abs(wave - load_waveform(cut.path[0], 8000, 0.05, 0.15)).max() <= 0.5 / 32768 + 1e-7
    with pytest.raises(ValueError, match="eval_fold"):
        read_clips("shards", tmp_path, ontology, eval_fold=9)


def test_broken_clips_are_listed_and_not_packed(table, tmp_path, ontology):
    paths = table.path[:6].tolist()
    for n, data in ((1, Path(paths[1]).read_bytes()[:500]), (2, b"not audio"), (3, b"")):
        paths[n] = str(tmp_path / f"{n}.wav")
        Path(paths[n]).write_bytes(data)
    paths[4] = str(tmp_path / "nan.wav")
    soundfile.write(paths[4], np.array([0, np.nan]), RATE, subtype="FLOAT")
    broken = table[:6].assign(path=paths)
    index = pack(broken, tmp_path / "out", progress=False)
    problems = {p["clip_id"]: p["problem"] for p in index["problems"]}
    assert problems == dict(eval1="truncated", eval2="undecodable", eval3="empty", eval4="non-finite")
    assert index["clips"] == 2 and sum(index["left_out"].values()) == 4
    there = read_clips("shards", tmp_path / "out", ontology)
    assert there.clip_id.tolist() == [broken.clip_id[0], broken.clip_id[5]]
    assert len(there.attrs["problems"]) == 4
    assert index["clips_hash"] == clip_list_hash(there)
    with pytest.raises(ClipError, match=f"clip 'eval[1-4]': .*{tmp_path}/.*wav.*leave_out"):
        pack(broken, tmp_path / "refused", on_problem="refuse", progress=False)
    assert not list((tmp_path / "refused").glob("*.tar"))
    assert pack(table[:4], tmp_path / "short", min_seconds=1, progress=False)["left_out"] == {"too short": 4}


# ---- killed, full, resumed --------------------------------------------------------------------------------

def pack_alone(table, folder, options):
    tqdm.set_lock(threading.RLock())  # not the one that forked processes share: who is killed may hold it
    pack(table, folder, progress=False, **options)


def packer(table, folder, **options):
    """A packer in a process of its own."""
    p = multiprocessing.get_context("fork").Process(target=pack_alone, args=(table, folder, options))
    p.start()
    return p


def test_killed_at_any_moment_and_the_same_in_the_end(table, packed, tmp_path):
    rng, kills = random.Random(0), 0
    for _ in range(60):
        p = packer(table, tmp_path, clips_per_shard=8)
        p.join(rng.uniform(0.005, 0.06))
        if p.is_alive():
            kills += 1
        p.kill()
        p.join()
        whole = {f.stem for f in tmp_path.glob("[!.]*-??????.json")}
        for name in whole:
            whole_shard = (packed / f"{name}.tar").read_bytes()
            assert (tmp_path / f"{name}.tar").read_bytes() == whole_shard, "half a shard is not a whole one"
        if not (tmp_path / "index.json").exists():
            with pytest.raises(FileNotFoundError, match=f"{len(whole)} whole shards"):
                read_index(tmp_path)
    pack(table, tmp_path, clips_per_shard=8, progress=False)
    assert kills > 5 and contents(tmp_path) == contents(packed)


@pytest.mark.slow
def test_killed_with_workers_and_the_same_in_the_end(tmp_path):
    table = loose(tmp_path / "loose", 400, 100, 2.0)
    pack(table, tmp_path / "whole", clips_per_shard=20, progress=False)
    table.to_pickle(tmp_path / "table.pkl")
    (tmp_path / "main.py").write_text(f"""
import pandas as pd
from spa_lib.data import pack
if __name__ == "__main__":
    table = pd.read_pickle({str(tmp_path / "table.pkl")!r})
    pack(table, {str(tmp_path / "out")!r}, clips_per_shard=20, workers=2, progress=False)
""")
    rng = random.Random(1)
    for _ in range(4):
        p = subprocess.Popen([sys.executable, tmp_path / "main.py"], start_new_session=True)
        try:
            p.wait(rng.uniform(8, 16))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    subprocess.run([sys.executable, tmp_path / "main.py"], check=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_workers_pack_the_same_bytes(table, packed, tmp_path):
    pack(table, tmp_path, clips_per_shard=8, workers=2, progress=False)
    assert contents(tmp_path) == contents(packed)


def test_resuming_packs_only_what_is_lacking(table, mine, packed):
    (mine / "train-000001.json").unlink()
    (mine / "train-000002.tar").write_bytes(b"half")
    (mine / ".train-000001-xyz.tar").write_bytes(b"left by a killed packer")
    before = {p.name: p.stat().st_mtime_ns for p in mine.glob("[!.]*.tar")}
    pack(table, mine, clips_per_shard=8, progress=False)
    after = {p.name: p.stat().st_mtime_ns for p in mine.glob("*.tar")}
    assert {n for n in before if before[n] != after[n]} == {"train-000001.tar", "train-000002.tar"}
    assert contents(mine) == contents(packed)


@pytest.mark.parametrize("other", [
    dict(codec="as is"), dict(seed=1), dict(clips_per_shard=7), dict(sample_rate=8000)], ids=str)
def test_another_packing_is_not_mixed_in(table, mine, other):
    before = contents(mine)
    with pytest.raises(ValueError, match="other clips or settings"):
        pack(table, mine, **{"clips_per_shard": 8, **other}, progress=False)
    with pytest.raises(ValueError, match="other clips or settings"):
        pack(table[1:], mine, clips_per_shard=8, progress=False)
    assert contents(mine) == before


def full(table, folder, room_for, queue):
    tqdm.set_lock(threading.RLock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_for, room_for))
    try:
        pack(table, folder, clips_per_shard=8, progress=False)
    except OSError as e:
        queue.put(str(e))


def test_no_room_left(table, tmp_path):
    """The system refuses to write on; what is whole stays, and packing goes on when there is space."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    p = context.Process(target=full, args=(table, tmp_path, 60_000, queue))
    p.start()
    message = queue.get(timeout=60)
    p.join(60)
    assert "no space left" in message and str(tmp_path) in message and "call pack again" in message
    assert "1 of 7 shards are whole" not in message
    assert not list(tmp_path.glob(".*")), "no half shard lies about"
    index = pack(table, tmp_path, clips_per_shard=8, progress=False)
    assert index["clips"] == 50 and len(verify(tmp_path, progress=False)) == 7


def test_full_disk(table, tmp_path):
    """A disk of a quarter of a megabyte, where such a one may be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    message = (r"no space left in .*GB free\). About .* GB more are needed. "
               "Free some: [1-9] of 7 shards are whole")
    try:
        with pytest.raises(OSError, match=message):
            pack(table, tmp_path, clips_per_shard=8, progress=False)
        subprocess.run(["mount", "-o", "remount,size=8m", tmp_path], check=True)
        assert pack(table, tmp_path, clips_per_shard=8, progress=False)["clips"] == 50
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# ---- damage -----------------------------------------------------------------------------------------------

def test_flipped_bit_is_named(mine, ontology):
    there = read_clips("shards", mine, ontology)
    shard, offset = there.path[3].split("#")[0], int(there.path[3].split("#")[1].split("+")[0])
    flip(Path(shard), offset + 200)
    damaged = f"{there.clip_id[3]!r}: damaged .*{offset:,}.*not those that were packed"
    message = f"{damaged}.*delete .*{Path(shard).name}"
    with pytest.raises(ClipError, match=message):
        Clips(there, ontology, RATE, 0.1, cache=False)[3]
    Clips(there, ontology, RATE, 0.1, cache=False)[4]
    with pytest.raises(ValueError, match=rf"1 of 7 shards.*\n.*{Path(shard).name}: damaged.*\nDelete"):
        verify(mine, progress=False)
    checked = check_clips(there, on_problem="leave_out", progress=False)
    assert [p["clip_id"] for p in checked.attrs["problems"]] == [there.clip_id[3]]


def test_truncated_and_missing_shards(mine, ontology):
    shard = mine / "train-000001.tar"
    with open(shard, "rb+") as f:
        f.truncate(shard.stat().st_size // 2)
    message = r"(?s)[34] of 50 clips cannot be used: [34] truncated.*train-000001.tar has .* bytes of"
    with pytest.raises(ValueError, match=message):
        read_clips("shards", mine, ontology)
    rest = read_clips("shards", mine, ontology, on_problem="leave_out")
    assert 40 < len(rest) < 50
    assert check_clips(rest, progress=False).attrs["problems"] == rest.attrs["problems"]
    later = shard_table(packed_copy := mine)  # the shard is cut while a run goes on
    with pytest.raises(ClipError, match="the shard ends at byte"):
        [load_waveform(p, RATE) for p in later.path[later.path.str.contains("train-000001")]]
    shard.unlink()
    with pytest.raises(ValueError, match="8 missing"):
        read_clips("shards", packed_copy, ontology)
    (mine / "eval-000000.json").unlink()
    with pytest.raises(ValueError, match="(?s)eval-000000.tar: its index.*train-000001.tar: missing"):
        verify(mine, progress=False)


def test_a_look_at_a_clip_does_not_copy_the_list_of_problems(packed, ontology):
    class Heavy(list):
        def __deepcopy__(self, memo):
            raise AssertionError("copied")

    clips = Clips(shard_table(packed), ontology, RATE, 0.1, cache=False)
    clips.table.attrs["problems"] = Heavy()
    assert clips[0][0].shape == (1600,)
    assert clips.targets.dtype == np.uint8 and next(iter(batches(clips, 2))).y.dtype == torch.float32


# ---- over http --------------------------------------------------------------------------------------------

def test_clips_over_http_are_those_from_disk_though_connections_break(packed, ontology, serve, no_waits):
    server = serve(packed, most=2_000, times=4)
    here, there = (Clips(read_clips("shards", root), ontology, RATE, 0.1, cache=False)
                   for root in (packed, server.url))
    for a, b in zip(batches(here, 8), batches(there, 8), strict=True):
        assert a.clip_ids == b.clip_ids and torch.equal(a.wave, b.wave) and torch.equal(a.y, b.y)
    assert server.left == 0


def test_source_that_vanishes_in_the_middle(packed, ontology, serve, no_waits):
    server = serve(packed)
    clips = Clips(read_clips("shards", server.url), ontology, RATE, 0.1, cache=False)
    assert clips[0][0].shape == (1600,)
    server.stop()
    with pytest.raises(OSError, match=rf"{server.url}/\w+-\d+.tar"):
        clips[1]


def test_absent_packing_is_an_error_at_once(packed, serve):
    with pytest.raises(OSError, match="404"):
        read_index(f"{serve(packed).url}/nowhere")


# ---- a run ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def seconds_long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, loose(folder / "loose", 24, 8, 1.0)


def tiny_run(source, root, **options):
    small = dict(encoder="mn", clip_seconds=1.0, epochs=1, batch_size=8, dim=16, bootstrap=0,
                 text_model="random", cache=False, device="cpu")
    return make_config("demo", source=source, root=str(root), **small | options)


@pytest.mark.parametrize("options", [
    dict(balanced=True, epoch_clips=16, mixup_rate=0.5), dict(freeze=True, mixup_rate=0.0)],
    ids=["balanced", "frozen"])
def test_a_run_on_shards_is_the_run_on_loose_files(
        seconds_long, tmp_path, monkeypatch, serve, no_waits, options):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    folder, table = seconds_long
    pack(table, tmp_path / "shards", clips_per_shard=7, progress=False)
    server = serve(tmp_path / "shards", most=3000, times=4)
    sides = (("loose", "audioset", folder / "loose"), ("shards", "shards", tmp_path / "shards"),
             ("address", "shards", server.url))
    first, *others = [train(tiny_run(source, root, **options), tmp_path / name, progress=False)
                      for name, source, root in sides]
    for run in others:
        assert np.array_equal(first.scores, run.scores) and first.clip_ids.tolist() == run.clip_ids.tolist()
        for value in ("clips_hash", "train_clips_hash", "mAP", "OmAP"):
            assert first.metrics[value] == run.metrics[value]
        assert first.log.drop(columns="seconds").equals(run.log.drop(columns="seconds"))
    assert server.left == 0, "connections were broken, by the look at all clips if not by the training"


def test_a_run_whose_source_vanishes_stops_by_name_and_goes_on_when_it_is_back(
        seconds_long, tmp_path, monkeypatch, serve, no_waits):
    folder, table = seconds_long
    pack(table, tmp_path / "shards", clips_per_shard=7, progress=False)
    whole = train(tiny_run("shards", tmp_path / "shards", epochs=3), tmp_path / "whole", progress=False)
    server = serve(tmp_path / "shards")
    write, save = Trainer.save_seconds, Trainer.save
    monkeypatch.setattr(Trainer, "save_seconds", 0)  # a state after every step
    steps = iter(range(100))

    def save_and_vanish(trainer):
        save(trainer)
        if next(steps) == 4:
            server.stop()

    monkeypatch.setattr(Trainer, "save", save_and_vanish)
    message = rf"{server.url}/train-\d+.tar, bytes from [\d,]+ on: .*given up after 6 tries"
    with pytest.raises(OSError, match=message):
        train(tiny_run("shards", server.url, epochs=3), tmp_path / "broken", progress=False)
    monkeypatch.setattr(Trainer, "save_seconds", write)
    back = serve(tmp_path / "shards")
    again = train(tiny_run("shards", back.url, epochs=3), tmp_path / "broken", progress=False)
    assert np.array_equal(whole.scores, again.scores)
    assert whole.log.drop(columns="seconds").equals(again.log.drop(columns="seconds"))


def test_byte_ranges_behind_an_address(mine, serve):
    server, deaf = serve(mine), serve(mine, ranges=False)
    here, there = (read_clips("shards", root) for root in (mine, server.url))
    assert [read_shard_range(p) for p in here.path] == [read_shard_range(p) for p in there.path]
    assert len(server.asked) >= len(there)
    message = rf"{deaf.url}/\w+-\d+.tar: this server gives no parts of files.*copy the shards to a local disk"
    with pytest.raises(OSError, match=message):
        read_shard_range(read_clips("shards", deaf.url).path[3])
    flip(mine / "train-000001.tar", int(SHARD_RANGE.fullmatch(there.path[9])[2]) + 100)
    with pytest.raises(ClipError, match="damaged.*not those that were packed"):
        [read_shard_range(p) for p in there.path]
    with open(mine / "train-000001.tar", "r+b") as f:
        f.truncate(5000)
    with pytest.raises((ClipError, OSError), match="truncated.*the shard ends at byte 5,000|416"):
        [read_shard_range(p) for p in there.path]
    (mine / "train-000001.tar").unlink()
    with pytest.raises(OSError, match="404"):
        [read_shard_range(p) for p in there.path]


# ---- real clips -------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_real_clips_packed_for_travel(shared, tmp_path):
    table = read_clips("audioset", shared / "data" / "audioset_mini")
    index = pack(table, tmp_path, codec="as is", progress=False)
    assert index["clips"] == 1493 and not index["problems"] and index["clips_hash"] == clip_list_hash(table)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 45e6
    there = read_clips("shards", tmp_path)
    for packed_path, path in list(zip(there.path, table.path))[::50]:
        assert np.array_equal(load_waveform(packed_path, 32000), load_waveform(path, 32000))
