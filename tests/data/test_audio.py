"""Waveforms: decoded, resampled, fitted to a length; files that are broken; bytes behind an address."""
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from spa_lib.data import (
    CROPS,
    PADS,
    PROBLEMS,
    RESAMPLERS,
    ClipError,
    Clips,
    check_clips,
    fit_length,
    load_waveform,
    read_source,
    read_url,
    resample,
)

# ---- length -----------------------------------------------------------------------------------------------

@given(n=st.integers(1, 60), samples=st.integers(1, 60), crop=st.sampled_from(CROPS),
       pad=st.sampled_from(PADS), seed=st.integers(0, 9))
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
        filled = np.zeros(samples - n) if pad == "zero" else wave[np.arange(n, samples) % n]
        assert np.array_equal(out[n:], filled)


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


# ---- waveforms --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, options, within", [
    ("a.wav", dict(subtype="PCM_16"), 3.2e-5),
    ("b.wav", dict(subtype="PCM_24"), 2e-7),
    ("c.wav", dict(subtype="PCM_U8"), 8e-3),
    ("d.wav", dict(subtype="FLOAT"), 1e-7),
    ("e.flac", {}, 3.2e-5),
    ("f.ogg", {}, None),
    ("g.mp3", {}, None),
])
def test_decodes_mono_float32(tmp_path, name, options, within, noise):
    x = noise(tmp_path / name, channels=2, **options)
    wave = load_waveform(tmp_path / name, 16000)
    assert wave.dtype == np.float32 and wave.shape == (16000,)
    expected = x.clip(-1, 1).mean(1)
    if within is None:
        assert np.corrcoef(wave, expected)[0, 1] > 0.6
    else:
        assert np.abs(wave - expected).max() < within


def test_segment_of_a_file(tmp_path, noise):
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


def test_segment_outside_the_file(tmp_path, noise):
    noise(tmp_path / "a.wav", 1.0)
    with pytest.raises(ClipError) as e:
        load_waveform(tmp_path / "a.wav", 16000, 5.0, 6.0)
    assert e.value.problem == "too short"


def test_wav_written_to_a_pipe(tmp_path, noise):
    x = noise(tmp_path / "a.wav")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.find(b"data") + 4
    data[at:at + 4] = data[4:8] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert len(load_waveform(tmp_path / "a.wav", 16000)) == len(x)


# ---- broken files -----------------------------------------------------------------------------------------

def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])


def garble(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2:len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(bytes(data))


def broken(noise, tmp_path, kind):
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


KINDS = [
    "wav missing", "wav empty", "wav no samples", "wav not audio", "wav nan", "wav inf", "wav header only",
    "wav 0.3", "wav 0.99", "ogg not audio", "ogg 0.3", "ogg 0.9", "ogg 0.995", "ogg garbled",
    "flac not audio", "flac 0.3", "flac 0.9",
]


@pytest.mark.parametrize("kind", KINDS)
def test_broken_file_is_named(tmp_path, ontology, kind, noise, table_of):
    path, problem = broken(noise, tmp_path, kind)
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


# ---- behind an address ------------------------------------------------------------------------------------

@pytest.fixture
def shard(tmp_path):
    (tmp_path / "a.tar").write_bytes(np.random.default_rng(0).bytes(200_000))
    return tmp_path / "a.tar"


@pytest.mark.parametrize("start, stop", [
    (0, None), (0, 1000), (512, 90_000), (199_000, None), (150_000, 300_000)])
def test_ranges_are_those_of_the_file(shard, serve, start, stop):
    server = serve(shard.parent)
    part = shard.read_bytes()[start:stop]
    assert read_source(shard, start, stop) == part and read_source(f"{server.url}/a.tar", start, stop) == part
    assert server.asked == [("/a.tar", start)], "one request"


def test_a_reply_that_ends_early_is_asked_for_again(shard, serve, no_waits):
    server = serve(shard.parent, most=20_000, times=3)
    assert read_url(f"{server.url}/a.tar", 1000, 190_000) == shard.read_bytes()[1000:190_000]
    assert server.left == 0 and len(server.asked) == 4


def test_an_address_that_breaks_for_good_is_named(shard, serve, no_waits):
    server = serve(shard.parent, most=100, times=10**6)
    with pytest.raises(OSError, match=rf"{server.url}/a.tar, bytes from 500 on: .*given up after 3 tries"):
        read_url(f"{server.url}/a.tar", 500, 9000, retries=2)
    assert len(server.asked) == 3
    server.stop()
    with pytest.raises(OSError, match=rf"{server.url}/a.tar: .*given up after 2 tries"):
        read_url(f"{server.url}/a.tar", retries=1)


def test_what_cannot_be_had_is_an_error_at_once(shard, serve):
    server, deaf = serve(shard.parent), serve(shard.parent, ranges=False)
    begun = time.time()
    with pytest.raises(OSError, match=rf"{server.url}/none.tar: HTTP 404"):
        read_url(f"{server.url}/none.tar", wait=60)
    with pytest.raises(OSError, match="HTTP 416"):
        read_url(f"{server.url}/a.tar", 10**6, wait=60)
    with pytest.raises(OSError, match="no parts of files.*copy the shards to a local disk"):
        read_url(f"{deaf.url}/a.tar", 512, 1024, wait=60)
    assert len(read_url(f"{deaf.url}/a.tar", wait=60)) == 200_000, "a whole file needs no ranges"
    assert time.time() - begun < 10


def test_a_busy_server_is_asked_again(monkeypatch, serve, shard, no_waits):
    server = serve(shard.parent)
    handler, busy = server.RequestHandlerClass, iter([503, 429, 500])

    class Busy(handler):
        def do_GET(self):
            status = next(busy, None)
            return self.send_error(status) if status else super().do_GET()

    server.RequestHandlerClass = Busy
    assert len(read_url(f"{server.url}/a.tar")) == 200_000


def test_a_proxy_of_the_environment_is_used(monkeypatch, shard, serve):
    server = serve(shard.parent)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert read_url(f"{server.url}/a.tar", 0, 10) == shard.read_bytes()[:10]
    with pytest.raises(OSError, match="HTTP 404"):  # the proxy is asked, and has no such file
        read_url("http://clips.invalid/b.tar", 0, 10)
