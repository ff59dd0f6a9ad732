"""Files, folders and samples in, tables of labels and times out."""
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from spa_lib.data import ClipError, load_waveform
from spa_lib.encoders import CheckpointError, create_encoder
from spa_lib.tagger import Tagger, load_pretrained, save_model
from spa_lib.tagger.windows import Sound, cut_windows

RATE = 32000


def sound(seconds, rate=RATE, seed=0):
    """Noise that swells, so that no two windows are alike."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return (0.2 * np.linspace(0, 1, n) * rng.standard_normal(n)).astype(np.float32)


# ---- windows

@pytest.mark.parametrize("block", [1000, 7777, 64000, 10**6])
def test_windows_do_not_depend_on_the_blocks(block):
    x = sound(10.3)
    firsts = [*range(0, 17 * 16000, 16000), len(x) - 64000]
    expected = [(first, x[first:first + 64000]) for first in firsts]
    found = list(cut_windows(np.split(x, range(block, len(x), block)), 64000, 16000, 3200))
    assert [w.first for w in found] == [first for first, _ in expected]
    assert all(np.array_equal(w.wave, wave) for w, (_, wave) in zip(found, expected))


def test_a_little_rest_is_no_window_of_its_own(tagger):
    assert len(tagger.scores(sound(2.05), RATE)) == 1 and len(tagger.scores(sound(2.2), RATE)) == 2


def test_every_window_scores_what_its_samples_score(tagger):
    x = sound(5)
    table = tagger.tag(x, RATE, reduce=None, top=None)
    scores = tagger.scores(x, RATE)
    assert scores.shape == (7, 3)
    for i, start in enumerate(np.arange(7) * 0.5):
        rows = table[table.start == start].set_index("mid").score
        assert np.allclose(rows[list(tagger.mids)], scores[i], atol=1e-6)
        part = torch.from_numpy(x[round(start * RATE):round((start + 2) * RATE)])[None]
        with torch.no_grad():
            direct = torch.sigmoid(tagger.model(part, RATE)[0])[0]
        assert np.allclose(direct, scores[i], atol=1e-5)


def test_a_short_clip_is_one_window_filled_up_as_the_run_did(tagger):
    x = sound(0.7)
    table = tagger.tag(x, RATE)
    assert set(table.start) == {0.0} and set(table.end) == {0.7}
    filled = np.pad(x, (0, 2 * RATE - len(x)))
    assert np.allclose(tagger.scores(x, RATE), tagger.scores(filled, RATE), atol=1e-6)


def test_a_released_network_hears_a_short_clip_as_it_is(official):
    x = sound(0.7)
    with torch.no_grad():
        direct = torch.sigmoid(official.model(torch.from_numpy(x)[None], RATE)[0])
    assert np.allclose(official.scores(x, RATE), direct, atol=1e-6)
    assert official.scores(x[:10], RATE).shape == (1, 527), "what is too short for the network is filled up"


# ---- reduce, top, threshold

def test_max_says_where_and_mean_is_of_all(tagger):
    x = sound(5)
    scores = tagger.scores(x, RATE)
    best, mean = (tagger.tag(x, RATE, reduce=r, top=None).set_index("mid") for r in ("max", "mean"))
    assert np.allclose(best.score[tagger.mids], scores.max(0))
    assert np.allclose(mean.score[tagger.mids], scores.mean(0))
    assert (best.start[tagger.mids] == scores.argmax(0) * 0.5).all() and ((best.end - best.start) == 2).all()
    assert set(mean.start) == {0.0} and set(mean.end) == {5.0}


def test_rows_are_sorted_and_as_many_as_asked_for(official):
    table = official.tag(sound(3), RATE, top=7)
    assert len(table) == 7 and table.score.is_monotonic_decreasing
    assert list(table.columns) == ["start", "end", "mid", "name", "path", "score"]
    assert len(official.tag(sound(3), RATE, top=None, threshold=0.999999)) == 0
    assert len(official.tag(sound(3), RATE, top=None)) == 527


@pytest.mark.parametrize("wrong, message", [
    (dict(top=0), "top must be at least 1"), (dict(threshold=1.5), "between 0 and 1"),
    (dict(reduce="median"), "unknown reduce"), (dict(hop=0), "hop must be above 0"),
    (dict(window=1.0, hop=2.0), "at most the window"), (dict(window=1e-9), "is not one sample"),
    (dict(on_problem="skip"), "unknown on_problem"),
])
def test_a_wrong_setting_is_named(tagger, wrong, message):
    with pytest.raises(ValueError, match=message):
        tagger.tag(sound(3), RATE, **wrong)


def test_a_window_that_the_network_would_cut_is_refused(tmp_path):
    from spa_lib.encoders import OfficialHead
    from spa_lib.ontology import Ontology
    from spa_lib.tagger import describe_model

    model = OfficialHead(create_encoder("ast", "tiny", clip_seconds=2.0), [0, 1])
    two = Ontology.audioset().subset(["Speech", "Male speech, man speaking"])
    about = describe_model(model, two, clip_seconds=2.0)
    with pytest.raises(ValueError, match=r"window=5 is longer than this model hears: 2\.\d+ s at most"):
        Tagger(model, about, device="cpu").tag(sound(6, 16000), 16000, window=5)


# ---- what can be heard

FORMATS = ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.webm", "a.opus", "a.mka", "a.aiff"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [48000])
def test_every_format_scores_what_the_loader_hears(name, rate, tagger, write):
    path = write(name, sound(3.3, rate), rate)
    scores = tagger.scores(path)
    assert np.allclose(scores, tagger.scores(load_waveform(path, RATE), RATE), atol=1e-6)
    assert scores.shape[0] >= 4


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW"])
def test_every_depth_and_two_channels(subtype, tagger, write):
    x = sound(2.5)
    path = write("a.wav", np.stack([x, x], 1), subtype=subtype)
    tolerance = 1e-4 if subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") else 0.1
    assert np.allclose(tagger.scores(path), tagger.scores(x, RATE), atol=tolerance)


def test_samples_as_they_come(tagger):
    x = sound(2.5)
    reference = tagger.scores(x, RATE)
    for same in (torch.from_numpy(x), np.stack([x, x]), np.stack([x, x], 1), x.astype(float), x.tolist()):
        assert np.allclose(tagger.scores(same, RATE), reference, atol=1e-6)
    assert np.allclose(tagger.scores((x * 32768).astype(np.int16), RATE), reference, atol=1e-2)


def test_bytes_of_a_file(tagger, write):
    import io

    path = write("a.flac", sound(2.5))
    assert np.array_equal(tagger.scores(io.BytesIO(path.read_bytes())), tagger.scores(path))


def test_alone_and_with_others_the_same(tagger, write):
    lengths = (0.5, 1.0, 2.0, 2.0, 3.3, 7.0, 0.5)
    paths = [write(f"{i}.wav", sound(seconds, seed=i)) for i, seconds in enumerate(lengths)]
    for size in (1, 3, 64):
        many = Tagger(tagger.model, tagger.description, device="cpu", batch_size=size)
        together = many.tag(paths, top=None, reduce=None)
        alone = [tagger.tag(path, top=None, reduce=None) for path in paths]
        assert list(together.file.drop_duplicates()) == [str(path) for path in paths], "in order"
        for path, table in zip(paths, alone):
            rows = together[together.file == str(path)].reset_index(drop=True)
            order = ["start", "mid"]
            a, b = (t.sort_values(order).reset_index(drop=True) for t in (rows, table))
            assert a[order].equals(b[order]) and np.allclose(a.score, b.score, atol=1e-5)


def test_twice_the_same(tagger):
    x = sound(4)
    assert np.array_equal(tagger.scores(x, RATE), tagger.scores(x, RATE))
    assert not tagger.model.training


def test_a_folder_however_deep(tagger, write, tmp_path):
    names = ["b.wav", "deep/er/a.flac", ".hidden/c.wav", "a.txt"]
    for name in names[:3]:
        write(name, sound(2))
    (tmp_path / "a.txt").write_text("not sound")
    table = tagger.tag(tmp_path, top=1)
    assert [f.removeprefix(f"{tmp_path}/") for f in table.file] == ["b.wav", "deep/er/a.flac"]
    assert list(table.columns)[0] == "file"


def test_embeddings(tagger, official):
    x = sound(3)
    assert tagger.embed(x, RATE).shape == (3, 16)
    assert official.embed(x, RATE).shape == (3, official.model.encoder.embed_dim)


# ---- bad input

class TestBadInput:
    def test_missing_file(self, tagger, tmp_path):
        with pytest.raises(ClipError, match="missing"):
            tagger.tag(tmp_path / "none.wav")

    def test_file_without_samples(self, tagger, write):
        with pytest.raises(ClipError, match="empty"):
            tagger.tag(write("a.wav", np.zeros(0, np.float32)))

    def test_no_samples(self, tagger):
        with pytest.raises(ValueError, match="there are no samples"):
            tagger.tag(np.zeros(0, np.float32), RATE)

    def test_samples_without_rate(self, tagger):
        with pytest.raises(TypeError, match="rate=16000"):
            tagger.tag(sound(1))

    def test_samples_that_are_not_finite(self, tagger):
        with pytest.raises(ValueError, match="nan or infinite"):
            tagger.tag(np.full(RATE, np.nan, np.float32), RATE)

    def test_text_file(self, tagger, tmp_path):
        (tmp_path / "a.wav").write_text("no sound at all " * 100)
        with pytest.raises(ClipError, match="undecodable"):
            tagger.tag(tmp_path / "a.wav")

    def test_truncated_file(self, tagger, write):
        path = write("a.wav", sound(3))
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(ClipError, match="truncated"):
            tagger.tag(path)

    def test_folder_without_sound(self, tagger, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(FileNotFoundError, match="no sound in .*none of its 1 files"):
            tagger.tag(tmp_path)

    def test_empty_list(self, tagger):
        with pytest.raises(ValueError, match="nothing to hear"):
            tagger.tag([])

    def test_silence_has_scores(self, tagger, official):
        for model in (tagger, official):
            table = model.tag(np.zeros(3 * RATE, np.float32), RATE)
            assert len(table) and np.isfinite(table.score).all()

    def test_a_list_to_what_takes_one(self, tagger, write):
        with pytest.raises(TypeError, match="takes one sound"):
            tagger.scores([write("a.wav", sound(1))])

    def test_a_bad_one_among_many(self, tagger, write, tmp_path):
        good, late = write("a.wav", sound(3)), write("c.wav", sound(3))
        bad = tmp_path / "b.wav"
        bad.write_bytes(good.read_bytes()[:-5000])
        with pytest.raises(ClipError, match="b.wav"):
            tagger.tag([good, bad, late])
        table = tagger.tag([good, bad, late], on_problem="leave_out", top=1)
        assert list(table.file) == [str(good), str(late)]
        problem, = table.attrs["problems"]
        assert problem["file"] == str(bad) and "truncated" in problem["problem"]
        assert len(tagger.tag([bad], on_problem="leave_out")) == 0


# ---- hours

def test_hours_go_through_in_bounded_memory(tagger, tmp_path, monkeypatch):
    """Eight hours at 8 kHz, whose windows are not computed: what is held at once is a minute or so."""
    import soundfile

    path = tmp_path / "night.wav"
    minute = (0.1 * np.random.default_rng(0).standard_normal(60 * 8000)).astype(np.float32)
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as f:
        for _ in range(480):
            f.write(minute)
    tracemalloc.start()
    n = 0
    for found in cut_windows(Sound("", path).blocks(16000), 320000, 160000):
        n += 1
        assert len(found.wave) == 320000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 8 * 360 - 1 and most < 60e6, f"{most / 1e6:.0f} MB; all samples would be 1,843 MB"


# ---- which model

class TestFromPretrained:
    def test_a_folder_and_its_file(self, tagger, tmp_path):
        save_model(tmp_path, tagger.model, tagger.description)
        for where in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
            again = Tagger.from_pretrained(where, device="cpu")
            assert np.allclose(again.scores(sound(3), RATE), tagger.scores(sound(3), RATE), atol=1e-6)
        assert len(again.sha256) == 64 and "3 classes, 32000 Hz, windows of 2 s" in repr(again)

    def test_neither_corpus_nor_checkpoint_is_needed(self, tmp_path):
        from spa_lib.runs import make_config
        from spa_lib.train import train

        torch.manual_seed(0)
        start = create_encoder("mn", "tiny")
        first = tmp_path / "start.pt"
        torch.save(start.state_dict(), first)
        cfg = make_config("smoke", encoder="mn", size="tiny", checkpoint=str(first), freeze=True,
                          mixup_rate=0.0, n_train=16, n_eval=8, bootstrap=0)
        run = train(cfg, tmp_path / "runs", progress=False)
        first.unlink()
        tagger = Tagger.from_pretrained(run.folder, device="cpu")
        assert tagger.tag(sound(2), RATE).mid.isin(run.mids).all()

    @pytest.mark.parametrize("name", ["psla", "panns", "ast", "passt", "htsat", "mn"])
    def test_a_released_file_says_whose_it_is(self, name, tmp_path):
        from spa_lib.tagger.tagging import encoder_of_file

        path = tmp_path / "weights.pt"
        torch.save(create_encoder(name, "tiny").state_dict(), path)
        assert encoder_of_file(path) == name

    def test_an_unknown_name_has_a_near_one(self):
        with pytest.raises(ValueError, match="and no such folder 'mn04_sa'. Did you mean 'mn04_as'"):
            load_pretrained("mn04_sa")

    def test_a_path_that_is_not_there(self, tmp_path):
        for where in (tmp_path / "none", "none.pt", "runs/none"):
            with pytest.raises(FileNotFoundError, match="there is no model at"):
                load_pretrained(where)

    def test_tensors_of_nobody(self, tmp_path):
        torch.save({"a.weight": torch.zeros(1)}, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="the tensors of no encoder that is known here"):
            load_pretrained(tmp_path / "a.pt")


def test_real_clips_get_their_label(shared):
    """Ten clips of ESC-50 by the released mn04: the right label is among the first five of eight at least."""
    import csv

    from spa_lib.ontology import class_map

    tagger = Tagger.from_pretrained(shared / "models" / "mn04_as_mAP_432.pt", device="cpu")
    assert tagger.name == "mn04_as" and len(tagger.mids) == 527
    folder = shared / "data" / "ESC-50-part"
    with open(next(folder.rglob("esc50.csv"))) as f:
        category = {row["filename"].split(".")[0]: row["category"] for row in csv.DictReader(f)}
    mid = {m.category: m.mid for m in class_map("esc50") if m.match == "exact"}
    files = {}
    for path in sorted((folder / "audio").iterdir()):
        if category[path.stem] in mid:
            files.setdefault(category[path.stem], path)
    wanted = ["dog", "rooster", "cat", "crow", "thunderstorm", "crying_baby", "church_bells", "siren",
              "helicopter", "clapping"]
    files = {name: files[name] for name in wanted if name in files}
    assert len(files) >= 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = tagger.tag(list(files.values()), top=5)
    right = [mid[name] in set(table.mid[table.file == str(path)]) for name, path in files.items()]
    assert np.mean(right) >= 0.8, dict(zip(files, right))
