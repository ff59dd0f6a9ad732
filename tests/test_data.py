"""The clip table, what is wrong with clips, waveforms, splits and batches; small files made here, and real clips where they lie."""
import builtins
import functools
import http.server
import io
import json
import logging
import pickle
import tarfile
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from spa_lib.data import COLUMNS, CROPS, FREESOUND_IDS, PADS, PROBLEMS, RESAMPLERS, Batch, ClipError, Clips, WholeClips, batches, check_clips, clip_list_hash, clips as clips_room, fit_length, load_waveform, read_clips, resample, split_by_recording, targets
from spa_lib.ontology import Ontology

soundfile = pytest.importorskip("soundfile", reason="the audio files of these tests are written with soundfile")


@pytest.fixture(scope="module")
def ontology():
    return Ontology.audioset()


def noise(path, seconds=1.0, rate=16000, channels=1, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    x = 0.2 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)).clip(-4, 4)
    soundfile.write(path, x, rate, **options)
    return x


def table_of(paths, mids=None, recording=None):
    ids = [p.stem for p in paths]
    nan = [np.nan] * len(ids)
    return pd.DataFrame(dict(clip_id=ids, path=[str(p) for p in paths], start_seconds=nan, end_seconds=nan,
                             mids=pd.Series(mids or [("/m/06mb1",)] * len(ids), dtype=object), split="train", fold=-1, recording=recording or ids))


def rows_of(recordings):
    """A table of (recording, mids) pairs, without files."""
    return pd.DataFrame(dict(clip_id=[f"c{i}" for i in range(len(recordings))], path="", start_seconds=np.nan, end_seconds=np.nan,
                             mids=pd.Series([m for _, m in recordings], dtype=object), split="train", fold=-1, recording=[r for r, _ in recordings]))


# ---- length -------------------------------------------------------------------------------------------------

@given(n=st.integers(1, 60), samples=st.integers(1, 60), crop=st.sampled_from(CROPS), pad=st.sampled_from(PADS), seed=st.integers(0, 9))
def test_length_is_exact_and_content_is_kept(n, samples, crop, pad, seed):
    wave = np.arange(1, n + 1, dtype=np.float32)
    out = fit_length(wave, samples, crop, pad, np.random.default_rng(seed))
    assert len(out) == samples and out.dtype == np.float32
    if samples <= n:
        first = int(out[0]) - 1
        assert 0 <= first <= n - samples and np.array_equal(out, wave[first:first + samples])
        if crop != "random":
            assert first == (0 if crop == "start" else (n - samples) // 2)
    else:
        assert np.array_equal(out[:n], wave)
        assert np.array_equal(out[n:], np.zeros(samples - n) if pad == "zero" else wave[np.arange(n, samples) % n])


def test_random_crop_reaches_every_place():
    firsts = {int(fit_length(np.arange(5), 3, "random", rng=np.random.default_rng(s))[0]) for s in range(50)}
    assert firsts == {0, 1, 2}


def test_fit_length_refuses():
    with pytest.raises(ValueError, match="empty waveform"):
        fit_length(np.zeros(0), 3)
    with pytest.raises(ValueError, match="did you mean 'centre'|Did you mean 'centre'"):
        fit_length(np.zeros(9), 3, "center")
    with pytest.raises(ValueError, match="rng"):
        fit_length(np.zeros(9), 3, "random")


# ---- waveforms ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, options, within", [
    ("a.wav", dict(subtype="PCM_16"), 3.2e-5), ("b.wav", dict(subtype="PCM_24"), 2e-7), ("c.wav", dict(subtype="PCM_U8"), 8e-3), ("d.wav", dict(subtype="FLOAT"), 1e-7),
    ("e.flac", {}, 3.2e-5), ("f.ogg", {}, None), ("g.mp3", {}, None)])
def test_decodes_mono_float32(tmp_path, name, options, within):
    x = noise(tmp_path / name, channels=2, **options)
    wave = load_waveform(tmp_path / name, 16000)
    assert wave.dtype == np.float32 and wave.shape == (16000,)
    expected = x.clip(-1, 1).mean(1)
    assert np.corrcoef(wave, expected)[0, 1] > 0.6 if within is None else np.abs(wave - expected).max() < within


def test_segment_of_a_file(tmp_path):
    noise(tmp_path / "a.flac", 2.0)
    whole = load_waveform(tmp_path / "a.flac", 16000)
    assert np.array_equal(load_waveform(tmp_path / "a.flac", 16000, 0.5, 1.25), whole[8000:20000])
    assert np.array_equal(load_waveform(tmp_path / "a.flac", 16000, 1.5), whole[24000:])
    assert np.array_equal(load_waveform(tmp_path / "a.flac", 16000, float("nan"), 0.5), whole[:8000])
    assert len(load_waveform(tmp_path / "a.flac", 16000, 1.5, 9.0)) == 8000


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("rate, wanted", [(44100, 32000), (48000, 16000), (16000, 32000), (22050, 32000)])
def test_resampling_keeps_a_tone(resampler, rate, wanted):
    tone = lambda r: np.sin(2 * np.pi * 1000 * np.arange(r) / r)
    out = resample(tone(rate), rate, wanted, resampler)
    assert out.dtype == np.float32 and len(out) == wanted
    assert np.abs(out - tone(wanted))[500:-500].max() < 5e-3


def test_same_rate_is_left_as_it_is():
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    assert np.array_equal(resample(x, 8000, 8000), x)


@pytest.mark.parametrize("wrong", [0, -16000, 16000.5])
def test_a_rate_must_be_a_rate(wrong):
    with pytest.raises(ValueError, match="sample rate"):
        resample(np.zeros(10, np.float32), 8000, wrong)


def test_unknown_resampler():
    with pytest.raises(ValueError, match="Did you mean 'poly'"):
        resample(np.zeros(10, np.float32), 8000, 16000, "polly")


@pytest.fixture
def without_soundfile(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "soundfile":
            raise ImportError("no soundfile")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("subtype, within", [("PCM_16", 3.2e-5), ("PCM_24", 2e-7), ("PCM_32", 2e-7), ("PCM_U8", 8e-3), ("FLOAT", 1e-7)])
def test_wav_without_soundfile(tmp_path, subtype, within, request):
    x = noise(tmp_path / "a.wav", channels=2, subtype=subtype)
    with_it = load_waveform(tmp_path / "a.wav", 16000, 0.25, 0.5)
    request.getfixturevalue("without_soundfile")
    wave = load_waveform(tmp_path / "a.wav", 16000)
    assert wave.dtype == np.float32 and np.abs(wave - x.clip(-1, 1).mean(1)).max() < within
    assert np.abs(load_waveform(tmp_path / "a.wav", 16000, 0.25, 0.5) - with_it).max() < 1e-6


def test_other_kinds_without_soundfile(tmp_path, without_soundfile):
    (tmp_path / "a.flac").write_bytes(b"fLaC and so on")
    with pytest.raises(ImportError, match="pip install soundfile"):
        load_waveform(tmp_path / "a.flac", 16000)
    (tmp_path / "a.wav").write_bytes(b"RIFFxxxx")
    with pytest.raises(ClipError, match="undecodable"):
        load_waveform(tmp_path / "a.wav", 16000)


# ---- broken files -------------------------------------------------------------------------------------------

def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


def garble(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2:len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(bytes(data))


def broken(tmp_path, kind):
    """A file of that kind of damage, and the problem that it must be called."""
    name, _, what = kind.partition(" ")
    path = tmp_path / f"bad.{name}"
    if what == "missing":
        return path, "missing"
    if what == "empty":
        path.write_bytes(b"")
        return path, "empty"
    if what == "no samples":
        soundfile.write(path, np.zeros((0, 1)), 16000)
        return path, "empty"
    if what == "not audio":
        path.write_bytes(b"<html>404 not found</html>" * 50)
        return path, "undecodable"
    if what in ("nan", "inf"):
        x = np.zeros(1600, np.float32)
        x[77] = float(what)
        soundfile.write(path, x, 16000, subtype="FLOAT")
        return path, "non-finite"
    noise(path, 3.0)
    if what == "header only":
        path.write_bytes(path.read_bytes()[:44])
        return path, "truncated"
    if what == "garbled":
        garble(path)
        return path, "truncated"
    cut(path, float(what))
    return path, "truncated"


KINDS = ["wav missing", "wav empty", "wav no samples", "wav not audio", "ogg not audio", "flac not audio", "wav nan", "wav inf", "wav header only",
         "wav 0.3", "wav 0.99", "ogg 0.3", "ogg 0.9", "ogg 0.995", "flac 0.3", "flac 0.9", "ogg garbled"]


@pytest.mark.parametrize("kind", KINDS)
def test_broken_file_is_named(tmp_path, ontology, kind):
    path, problem = broken(tmp_path, kind)
    with pytest.raises(ClipError) as e:
        load_waveform(path, 16000)
    allowed = {problem, "undecodable"} if kind.startswith("flac") else {problem}
    assert e.value.problem in allowed and e.value.problem in PROBLEMS and str(path) in str(e.value)

    good = tmp_path / "good.wav"
    noise(good)
    table = table_of([good, path])
    with pytest.raises(ValueError, match=f"1 of 2 clips cannot be used: 1 {e.value.problem}\n  bad: "):
        check_clips(table, progress=False)
    kept = check_clips(table, on_problem="leave_out", progress=False, workers=2)
    assert list(kept.clip_id) == ["good"]
    assert [(p["clip_id"], p["problem"]) for p in kept.attrs["problems"]] == [("bad", e.value.problem)]

    clips = Clips(table, ontology, 16000, 0.5)
    clips[0]
    with pytest.raises(ClipError, match="clip 'bad'") as in_run:
        clips[1]
    assert (in_run.value.clip_id, in_run.value.problem) == ("bad", e.value.problem)
    assert Clips(table, ontology, 16000, 0.5, on_problem="leave_out").clip_ids == ["good"]


@pytest.mark.parametrize("cache", [True, False])
def test_short_clips(tmp_path, ontology, cache, caplog):
    paths = [tmp_path / f"{name}.wav" for name in ("long", "short", "other")]
    for i, (p, seconds) in enumerate(zip(paths, (1.0, 0.2, 1.0))):
        noise(p, seconds, seed=i)
    table = table_of(paths)
    with pytest.raises(ValueError, match=r"short: too short \(0.200 s of 0.5 s\)"):
        check_clips(table, min_seconds=0.5, progress=False)
    with pytest.raises(ClipError, match="clip 'short': too short"):
        Clips(table, ontology, 16000, 0.5, min_seconds=0.5, cache=cache)[1]
    with caplog.at_level(logging.WARNING, "spa_lib"):
        clips = Clips(table, ontology, 16000, 0.5, min_seconds=0.5, on_problem="leave_out", cache=cache, crop="start")
    assert "left out 1 of 3 clips: 1 too short" in caplog.text
    assert clips.clip_ids == ["long", "other"] and len(clips.targets) == 2
    assert np.array_equal(clips[1][0], load_waveform(paths[2], 16000)[:8000])


def test_segment_outside_the_file(tmp_path):
    noise(tmp_path / "a.wav", 1.0)
    with pytest.raises(ClipError) as e:
        load_waveform(tmp_path / "a.wav", 16000, 5.0, 6.0)
    assert e.value.problem == "too short"


def test_wav_written_to_a_pipe(tmp_path):
    x = noise(tmp_path / "a.wav")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.find(b"data") + 4
    data[at:at + 4] = data[4:8] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert len(load_waveform(tmp_path / "a.wav", 16000)) == len(x)


# ---- the csv source and everything about tables -------------------------------------------------------------

def write_csv(folder, lines, header="path,labels"):
    (folder / "mine.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "mine.csv"


@pytest.fixture
def three(tmp_path):
    for i in range(3):
        noise(tmp_path / "a" / f"{i}.wav", 0.3, seed=i)
    return tmp_path


def test_csv_labels(three, ontology):
    lines = ['a/0.wav,"/m/06mb1,/m/03m9d0z"', 'a/1.wav,"Crowing, cock-a-doodle-doo; Rain"', "a/2.wav,/m/06mb1;Wind;Rain"]
    table = read_clips("csv", write_csv(three, lines), ontology, add_ancestors=False)
    assert tuple(table.columns) == COLUMNS and table.attrs["problems"] == []
    assert list(table.mids) == [("/m/06mb1", "/m/03m9d0z"), ("/m/07qn5dc", "/m/06mb1"), ("/m/06mb1", "/m/03m9d0z")]
    assert list(table.clip_id) == list(table.recording) == ["a/0.wav", "a/1.wav", "a/2.wav"]
    assert set(table.split) == {"train"} and set(table.fold) == {-1} and table.start_seconds.isna().all()
    above = read_clips("csv", write_csv(three, lines), ontology)
    for narrow, wide in zip(table.mids, above.mids):
        expected = set(narrow) | {a for m in narrow for a in ontology.ancestors(m) if a in ontology.mids}
        assert set(wide) == expected and wide[:len(narrow)] == narrow


def test_csv_other_columns(three, ontology):
    header = "path,labels,clip_id,split,fold,recording,start_seconds,end_seconds,remark"
    table = read_clips("csv", write_csv(three, ["a/0.wav,Rain,x,eval,3,r,0.1,0.2,NA", "a/1.wav,Rain,,,,,,,"], header), ontology)
    assert table.iloc[0].to_dict() | dict(mids=None, path=None) == dict(clip_id="x", path=None, start_seconds=0.1, end_seconds=0.2, mids=None, split="eval", fold=3, recording="r")
    assert table.clip_id[1] == table.recording[1] == "a/1.wav" and table.fold[1] == -1 and np.isnan(table.end_seconds[1])
    assert Clips(table, ontology, 16000, 0.05).load(0).shape == (1600,)


@pytest.mark.parametrize("header, line, message", [
    ("path,label", "a/0.wav,Rain", "no column 'labels'"), ("path,labels,split", "a/0.wav,Rain,test", "unknown split"), ("path,labels,fold", "a/0.wav,Rain,one", "column 'fold'")])
def test_csv_that_is_none(three, ontology, header, line, message):
    with pytest.raises(ValueError, match=message):
        read_clips("csv", write_csv(three, [line], header), ontology)


def test_every_problem_of_a_list(three, ontology, caplog):
    (three / "a" / "2.wav").write_bytes(b"")
    lines = ["a/0.wav,Rain", "a/1.wav,Rian", "a/0.wav,Wind", "a/2.wav,Rain", "a/9.wav,Rain", "a/1.wav,", "a/1.wav,Human sounds"]
    path = write_csv(three, [f"{line},{i}" if i != 2 else f"{line},0" for i, line in enumerate(lines)], "path,labels,clip_id")
    with pytest.raises(ValueError) as e:
        read_clips("csv", path, ontology)
    message = str(e.value)
    assert message.startswith("6 of 7 clips cannot be used: 2 unknown label, 1 duplicated id, 1 empty, 1 missing, 1 no label")
    assert "did you mean 'Rain'" in message and "... and 1 more" in message and "on_problem='leave_out'" in message
    with caplog.at_level(logging.WARNING, "spa_lib"):
        table = read_clips("csv", path, ontology, on_problem="leave_out")
    assert caplog.text.count("left out 6 of 7 clips") == 1
    assert list(table.clip_id) == ["0"] and list(table.mids)[0][0] == "/m/06mb1"
    found = [(p["clip_id"], p["problem"]) for p in table.attrs["problems"]]
    assert found == [("1", "unknown label"), ("0", "duplicated id"), ("3", "empty"), ("4", "missing"), ("5", "no label"), ("6", "unknown label")]
    assert "not one of its 527 classes" in table.attrs["problems"][-1]["detail"]
    json.dumps(table.attrs["problems"])


def test_rows_are_told_apart_whatever_the_index(tmp_path):
    paths = [tmp_path / f"{n}.wav" for n in "abc"]
    for p in paths[1:]:
        noise(p, 0.1)
    table = table_of(paths).set_index(pd.Index([0, 0, 0]))
    assert list(check_clips(table, on_problem="leave_out", progress=False).clip_id) == ["b", "c"]


def test_problems_add_up(three, ontology):
    cut(three / "a" / "1.wav", 0.5)
    table = read_clips("csv", write_csv(three, ["a/0.wav,Rain", "a/1.wav,Rain", "a/9.wav,Rain"]), ontology, on_problem="leave_out")
    table = check_clips(table, on_problem="leave_out", progress=False)
    assert [p["problem"] for p in table.attrs["problems"]] == ["missing", "truncated"]


@pytest.mark.parametrize("wrong, message", [
    (dict(source="esc-50"), "Did you mean 'esc50'"), (dict(source="csv", on_problem="drop"), "on_problem"), (dict(source="csv", eval_fold=1), "unknown option of csv"),
    (dict(source="csv"), "needs root="), (dict(source="audioset"), "needs root=")])
def test_wrong_choices(wrong, message, ontology):
    with pytest.raises(ValueError, match=message):
        read_clips(ontology=ontology, **wrong)


# ---- AudioSet's layout --------------------------------------------------------------------------------------

HEAD = "# Segments csv created by a test\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"


def test_audioset_layout(tmp_path, ontology):
    noise(tmp_path / "clips" / "deep" / "--4gqARaEJE.flac", 2.0)
    noise(tmp_path / "clips" / "abc.def.wav", 2.0)
    (tmp_path / "eval_segments.csv").write_text(HEAD + '--4gqARaEJE, 0.500, 1.500, "/m/068hy,/m/0bt9lr"\n')
    (tmp_path / "balanced_train_segments.csv").write_text(HEAD + 'abc.def, 30.000, 40.000, "/m/03m9d0z"\n')
    table = read_clips("audioset", tmp_path, ontology)
    assert list(table.clip_id) == ["abc.def", "--4gqARaEJE"] and list(table.split) == ["train", "eval"]
    assert table.mids[1] == ("/m/068hy", "/m/0bt9lr") and table.start_seconds.isna().all()
    only = read_clips("audioset", tmp_path, ontology, segments="eval_segments.csv", whole_soundtracks=True, add_ancestors=True)
    assert (only.start_seconds[0], only.end_seconds[0]) == (0.5, 1.5) and "/m/0jbk" in only.mids[0]
    assert Clips(only, ontology, 16000, 9.0).load(0).shape == (16000,)
    noise(tmp_path / "clips" / "abc.def.ogg", 2.0)
    with pytest.raises(ValueError, match="1 of 2 clips cannot be used: 1 ambiguous"):
        read_clips("audioset", tmp_path, ontology)
    with pytest.raises(FileNotFoundError, match="no \\*_segments.csv"):
        read_clips("audioset", tmp_path / "clips", ontology)


def test_recording_pattern(tmp_path, ontology):
    for name in ("1-100032-A-0", "100032-3-0-2"):
        noise(tmp_path / "clips" / f"{name}.wav", 0.1)
    (tmp_path / "train_segments.csv").write_text(HEAD + '1-100032-A-0, 0, 1, "/m/0bt9lr"\n100032-3-0-2, 0, 1, "/m/0bt9lr"\n')
    assert list(read_clips("audioset", tmp_path, ontology, recording_pattern=FREESOUND_IDS).recording) == ["100032", "100032"]
    with pytest.raises(ValueError, match="matches 1 of 2 clip ids, not 1-100032-A-0"):
        read_clips("audioset", tmp_path, ontology, recording_pattern=r"^(\d+)-\d+-\d+-\d+$")


def test_real_clips_in_audioset_layout(shared, ontology):
    table = read_clips("audioset", shared / "data" / "audioset_mini", ontology, recording_pattern=FREESOUND_IDS)
    assert table.split.value_counts().to_dict() == {"train": 904, "eval": 589} and table.attrs["problems"] == []
    train, held_out = table[table.split == "train"], table[table.split == "eval"]
    assert not set(train.recording) & set(held_out.recording)
    for part in (train, held_out):
        assert (targets(part, ontology).sum(0) > 0).sum() == 99
    # its labels are closed upwards already, but for one: Bleat hangs under Goat as well as under Sheep
    closed = read_clips("audioset", shared / "data" / "audioset_mini", ontology, add_ancestors=True)
    added = [[ontology.name(m) for m in wide[len(narrow):]] for narrow, wide in zip(table.mids, closed.mids)]
    assert [a for a in added if a] == [["Goat"]] * 8


@pytest.mark.slow
def test_real_clips_decode(shared, ontology):
    for source, root in (("audioset", "audioset_mini"), ("esc50", "ESC-50-part"), ("urbansound8k", "UrbanSound8K-part")):
        table = read_clips(source, shared / "data" / root, ontology)
        assert len(check_clips(table, progress=False)) == len(table)


# ---- ESC-50 and UrbanSound8K --------------------------------------------------------------------------------

def test_real_esc50(shared, ontology):
    table = read_clips("esc50", shared / "data" / "ESC-50-part", ontology)
    weak = [p for p in table.attrs["problems"]]
    assert {p["problem"] for p in weak} == {"weak match"} and {p["detail"] for p in weak} == {"drinking_sipping", "can_opening", "washing_machine"}
    assert len(table) == 731 - 24 and len(weak) == 24
    every = pd.read_csv(shared / "data" / "ESC-50-part" / "meta" / "esc50.csv")
    kept = every[~every.category.isin({p["detail"] for p in weak})]
    assert table.fold.tolist() == kept.fold.tolist() and table.recording.tolist() == kept.src_file.astype(str).tolist()
    held_out = read_clips("esc50", shared / "data" / "ESC-50-part", ontology, eval_fold=4)
    assert (held_out.split == "eval").sum() == (held_out.fold == 4).sum() == 376
    with pytest.raises(ValueError, match="eval_fold"):
        read_clips("esc50", shared / "data" / "ESC-50-part", ontology, eval_fold=6)


def test_real_urbansound8k(shared, ontology):
    table = read_clips("urbansound8k", shared / "data" / "UrbanSound8K-part", ontology, eval_fold=2)
    assert table.fold.value_counts().to_dict() == {2: 395, 1: 391} and table.attrs["problems"] == []
    assert (table.split == "eval").equals(table.fold == 2)
    assert table.mids.map(lambda m: m[0]).nunique() == 10


def test_class_map_is_the_given_one(shared, ontology):
    given_map = pd.read_csv(shared / "data" / "class_map.csv")
    given_map = given_map[given_map.dataset.isin(["ESC-50", "UrbanSound8K"])]
    for name, dataset in (("ESC-50", "esc50"), ("UrbanSound8K", "urbansound8k")):
        ours = clips_room._class_map(dataset)
        rows = given_map[given_map.dataset == name]
        assert ours == {r.category: (r.mid, r.match) for r in rows.itertuples()}
        for r in rows.itertuples():
            above = set(ontology.ancestors(r.mid)) & set(ontology.mids)
            stated = set(str(r.ancestor_mids_in_527).split(";")) - {"nan"}
            assert above == stated, r.category


def esc_files(labels=("dog", "can_opening", "rain")):
    rows = [f"{i}-10{i}-A-0.wav,{i},0,{c},True,10{i},A" for i, c in enumerate(labels, 1)]
    files = {"meta/esc50.csv": "\n".join(["filename,fold,target,category,esc10,src_file,take", *rows]).encode()}
    for i in range(1, len(labels) + 1):
        out = io.BytesIO()
        soundfile.write(out, 0.1 * np.random.default_rng(i).standard_normal(1600), 16000, format="WAV")
        files[f"audio/{i}-10{i}-A-0.wav"] = out.getvalue()
    return files


def urbansound_files():
    rows = ["77-3-0-0.wav,77,0,1,1,1,3,dog_bark", "88-8-0-0.wav,88,0,1,1,2,8,siren"]
    wav = esc_files()["audio/1-101-A-0.wav"]
    return {"metadata/UrbanSound8K.csv": "\n".join(["slice_file_name,fsID,start,end,salience,fold,classID,class", *rows]).encode(),
            "audio/fold1/77-3-0-0.wav": wav, "audio/fold2/88-8-0-0.wav": wav, "audio/fold1/.DS_Store": b"x"}


def zipped(files, top):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in files.items():
            z.writestr(top + name, data)
    return out.getvalue()


def tarred(files, top):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, data in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that is served, its address, and an own cache."""
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("root", [None, "mine"])
def test_esc50_is_downloaded_when_asked_for(served, tmp_path, ontology, root):
    folder, url = served
    (folder / "master.zip").write_bytes(zipped(esc_files(), "ESC-50-master/"))
    root = root and tmp_path / root
    with pytest.raises(FileNotFoundError, match="download=True to fetch https://github.com/karoldvl/ESC-50/archive/master.zip"):
        read_clips("esc50", root, ontology)
    table = read_clips("esc50", root, ontology, download=True, url=f"{url}/master.zip")
    assert list(table.clip_id) == ["1-101-A-0", "3-103-A-0"] and list(table.fold) == [1, 3] and list(table.recording) == ["101", "103"]
    assert check_clips(table, progress=False).equals(table)
    where = root or tmp_path / "cache" / "data" / "esc50"
    assert (where / "meta" / "esc50.csv").is_file() and not list(where.parent.glob(".*")) and not list((tmp_path / "cache" / "downloads").iterdir())
    (folder / "master.zip").unlink()
    assert read_clips("esc50", root, ontology, download=True).equals(table), "what is there is not fetched again"


@pytest.mark.parametrize("top", ["UrbanSound8K/", ""])
def test_urbansound8k_is_downloaded_when_asked_for(served, ontology, top):
    folder, url = served
    (folder / "UrbanSound8K.tar.gz").write_bytes(tarred(urbansound_files(), top))
    table = read_clips("urbansound8k", None, ontology, download=True, url=f"{url}/UrbanSound8K.tar.gz?download=1")
    assert list(table.clip_id) == ["77-3-0-0", "88-8-0-0"] and list(table.recording) == ["77", "88"]
    assert table.mids[0] == ("/m/05tny_", *[a for a in ontology.ancestors("/m/05tny_") if a in ontology.mids])


@pytest.mark.parametrize("name, make, message", [
    ("a.zip", lambda: zipped({"README": b"nothing"}, "ESC-50-master/"), "does not hold meta/esc50.csv"),
    ("a.zip", lambda: zipped(esc_files(), "ESC-50-master/")[:-700], "cannot be used"),
    ("a.zip", lambda: zipped(esc_files() | {"../../out.txt": b"x"}, "ESC-50-master/"), "leads out"),
    ("a.tar.gz", lambda: tarred(esc_files(), "ESC-50-master/")[:3000], "cannot be used"),
    ("a.html", lambda: b"<html>gone</html>", "cannot be used")])
def test_a_bad_archive_leaves_nothing(served, tmp_path, ontology, name, make, message):
    folder, url = served
    (folder / name).write_bytes(make())
    with pytest.raises(ValueError, match=f"{message}.*Delete it") as e:
        read_clips("esc50", tmp_path / "esc", ontology, download=True, url=f"{url}/{name}")
    assert "downloads" in str(e.value) and not (tmp_path / "esc").exists() and not (tmp_path / "out.txt").exists()


def test_a_folder_with_other_files_is_left_alone(served, tmp_path, ontology):
    (tmp_path / "esc").mkdir()
    (tmp_path / "esc" / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="other files"):
        read_clips("esc50", tmp_path / "esc", ontology, download=True, url=served[1] + "/x.zip")


# ---- targets, hash, splits ----------------------------------------------------------------------------------

def test_targets(ontology):
    table = rows_of([("a", ("/m/06mb1", "/m/03m9d0z")), ("b", ("/m/06mb1",))])
    y = targets(table, ontology)
    assert y.dtype == np.uint8 and y.shape == (2, 527) and y.sum() == 3
    assert [ontology.mids[c] for c in np.flatnonzero(y[1])] == ["/m/06mb1"]
    small = ontology.subset(["/m/03m9d0z", "/m/06mb1"])
    assert np.array_equal(targets(table, small)[:, small.index("/m/06mb1")], [1, 1])
    with pytest.raises(ClipError, match="clip 'c0': unknown label"):
        targets(table, ontology.subset(["/m/06mb1"]))


def test_hash_is_of_the_list_alone():
    table = rows_of([("a", ("/m/06mb1", "/m/03m9d0z")), ("b", ("/m/06mb1",))])
    assert clip_list_hash(table) == clip_list_hash(table[::-1].assign(path="elsewhere"))
    others = [table.assign(clip_id=["c0", "x"]), table.assign(start_seconds=1.0), table.assign(mids=[("/m/06mb1",)] * 2), table[:1]]
    assert len({clip_list_hash(t) for t in [table, *others]}) == 5
    assert clip_list_hash(table) == "666c426483d3a3e6d75a57bda598661a8227fff259b96ef8992ccb3244650973"


recordings = st.lists(st.tuples(st.sampled_from([f"r{i}" for i in range(12)]), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(lambda s: tuple(sorted(s)))), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(rows=recordings, fraction=st.sampled_from([0.1, 0.25, 0.5, 0.8]), seed=st.integers(0, 3))
def test_split_never_divides_a_recording(rows, fraction, seed):
    table = rows_of(rows)
    a, b = split_by_recording(table, fraction, seed)
    assert not set(a.recording) & set(b.recording) and sorted([*a.clip_id, *b.clip_id]) == sorted(table.clip_id)
    of = lambda part, m: {r for r, mids in zip(part.recording, part.mids) if m in mids}
    one_sided = {m for m in "abcdef" if len(of(table, m)) > 1 and not (of(a, m) and of(b, m))}
    assert set(a.attrs["one_sided"]) == set(b.attrs["one_sided"]) == one_sided
    again = split_by_recording(table, fraction, seed)
    assert again[0].equals(a) and again[1].equals(b)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=8), min_size=1, max_size=6), fraction=st.sampled_from([0.1, 0.3, 0.5, 0.9]), seed=st.integers(0, 3))
def test_single_label_classes_are_on_both_sides(sizes, fraction, seed):
    rows = [(f"{c}-{r}", (f"m{c}",)) for c, recs in enumerate(sizes) for r, n in enumerate(recs) for _ in range(n)]
    a, b = split_by_recording(rows_of(rows), fraction, seed)
    every = {f"m{c}" for c in range(len(sizes))}
    assert {m for m, in a.mids} == {m for m, in b.mids} == every and a.attrs["one_sided"] == ()


def test_split_has_its_share_and_depends_on_the_seed():
    rows = [(f"{c}-{r}", (f"m{c}",)) for c in range(10) for r in range(20) for _ in range(3)]
    table = rows_of(rows)
    parts = [split_by_recording(table, 0.25, s) for s in range(3)]
    assert [len(b) for _, b in parts] == [150] * 3
    assert len({tuple(b.clip_id) for _, b in parts}) == 3
    shuffled = split_by_recording(table.sample(frac=1, random_state=0), 0.25, 0)
    assert set(shuffled[1].clip_id) == set(parts[0][1].clip_id), "the order of the rows does not matter"


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1])
def test_split_refuses(fraction):
    with pytest.raises(ValueError, match="fraction"):
        split_by_recording(rows_of([("a", ("m",))]), fraction, 0)


def test_split_of_real_clips(shared, ontology):
    table = read_clips("audioset", shared / "data" / "audioset_mini", ontology, recording_pattern=FREESOUND_IDS)
    train = table[table.split == "train"]
    for seed in range(3):
        a, b = split_by_recording(train, 0.2, seed)
        assert not set(a.recording) & set(b.recording) and b.attrs["one_sided"] == ()
        assert abs(len(b) / len(train) - 0.2) < 0.06


# ---- dataset and batches ------------------------------------------------------------------------------------

@pytest.fixture
def seven(tmp_path):
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
    assert kept.fill(progress=False) == sum(4 * round(8000 * (0.2 + 0.1 * i)) for i in range(7)) and read.fill(progress=False) == 0


def test_crop_depends_on_seed_epoch_and_index_alone(seven, ontology):
    make = lambda seed=0, epoch=0: (c := Clips(seven, ontology, 8000, 0.1, seed=seed), c.set_epoch(epoch))[0]
    one, other = make(), make()
    forwards, backwards = [one[i][0] for i in range(7)], [other[i][0] for i in reversed(range(7))][::-1]
    assert all(torch.equal(x, y) for x, y in zip(forwards, backwards))
    np.random.seed(1), torch.manual_seed(1)
    assert torch.equal(make()[6][0], forwards[6])
    assert not torch.equal(make(seed=1)[6][0], forwards[6]) and not torch.equal(make(epoch=1)[6][0], forwards[6])


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
    assert len(loader) == 3 and [b.wave.shape[0] for b in found] == [2, 2, 1] and {b.sample_rate for b in found} == {8000}
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
    assert [len(clips.load(i)) for i in range(len(clips))] == [round(8000 * (0.2 + 0.1 * i)) for i in range(7)]


def test_synth_is_read_through_the_same_door(ontology, tmp_path, monkeypatch):
    synth = pytest.importorskip("spa_lib.data.synth", reason="the embedded corpus is not there")
    made = table_of([tmp_path / "s.wav"])
    noise(tmp_path / "s.wav")

    def synth_clips(n_train=1, root=None):
        return made

    monkeypatch.setattr(synth, "synth_clips", synth_clips)
    assert read_clips("synth", ontology=ontology, n_train=1).clip_id.tolist() == ["s"]
    with pytest.raises(ValueError, match="Did you mean 'n_train'"):
        read_clips("synth", ontology=ontology, n_trian=1)
