"""A model as an ONNX file: the scores of torch, or no file."""
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from spa_lib.encoders import create_encoder
from spa_lib.encoders.base import Wrapped
from spa_lib.model import SPAModel
from spa_lib.ontology import Ontology
from spa_lib.tagger import Tagger, describe_model
from spa_lib.tagger.onnx_file import (
    SECONDS,
    OnnxError,
    differences,
    export_onnx,
    longest_waveform,
    onnx_session,
    trial_sounds,
)

SIX = ("psla", "panns", "ast", "passt", "htsat", "mn")
PETS = ["Dog", "Bark", "Cat"]


def tagger_of(name, size="tiny", clip_seconds=2.0, pad="zero", spread=3.0, **options):
    """A network with made-up weights over three classes, whose scores are spread over [0, 1]."""
    pets = Ontology.audioset().subset(PETS)
    torch.manual_seed(0)
    if name in ("ast", "passt"):
        options["clip_seconds"] = clip_seconds
    encoder = create_encoder(name, size, **options) if isinstance(name, str) else name
    T_hat = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    model = SPAModel(encoder, T_hat, dim=8).eval()
    rate = encoder.sample_rate
    with torch.no_grad():
        seconds = clip_seconds if encoder.max_samples else max(3, clip_seconds)
        sounds = torch.from_numpy(trial_sounds(round(seconds * rate), rate))
        X_hat = encoder.embed(sounds)
        model.p_a.weight.div_((X_hat - X_hat.mean(0)).std() * X_hat.shape[1] ** 0.5 / 10)
        E_a = model.audio_embeddings(sounds)
        model.c_a.weight.normal_(std=spread)
        model.c_a.weight.div_(model.c_a(E_a).std() / spread)
        model.c_a.bias.copy_(-(E_a @ model.c_a.weight.T).mean(0))
    about = describe_model(model, pets, clip_seconds=clip_seconds, pad=pad, run=dict(name="pets"))
    return Tagger(model, about, "0" * 64, device="cpu")


def made_by_transformers(kind, folder):
    """The folder of a small model, see tests/encoders/conftest.py."""
    conftest = Path(__file__).parents[1] / "encoders" / "conftest.py"
    made_by = runpy.run_path(str(conftest))["MADE_BY"]
    torch.manual_seed(0)
    for part in made_by[kind]():
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`exported("mn")`: a tagger, what its export said, and the session; made once."""
    made = {}

    def make(name, **options):
        key = (name, *options.items())
        if key not in made:
            tagger = tagger_of(name, **options)
            found = export_onnx(tagger, tmp_path_factory.mktemp("onnx") / f"{len(made)}.onnx")
            made[key] = tagger, found, onnx_session(found.file)
        return made[key]

    return make


@pytest.mark.parametrize("name", SIX)
def test_every_encoder_scores_as_in_torch(name, exported):
    long = dict(clip_seconds=17.0) if name in ("ast", "passt") else {}
    tagger, found, session = exported(name, **long)
    assert max(value for value in found.differences.values() if value == value) < 1e-4
    refused = {seconds for seconds, value in found.differences.items() if math.isnan(value)}
    most = longest_waveform(tagger.model.encoder)
    assert found.max_samples == most and refused == {s for s in found.differences if most and
                                                     round(s * tagger.sample_rate) > most}
    for seconds in SECONDS:
        if seconds in refused:
            continue
        # not the sounds that the export itself compares
        rng = np.random.default_rng(7)
        wave = (0.2 * rng.standard_normal((2, round(seconds * tagger.sample_rate)))).astype(np.float32)
        wave[1] *= np.linspace(0, 1, wave.shape[1], dtype=np.float32)
        scores, = session.run(None, {"waveform": wave})
        for one, score in zip(wave, scores):
            wanted = tagger.scores(one, tagger.sample_rate, window=max(seconds, 1.0))
            assert np.allclose(score, wanted[0], atol=1e-4) and len(wanted) == 1


@pytest.mark.parametrize("kind", [
    "wav2vec2",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ast", "clap", "hubert", "wavlm", "whisper")),
])
def test_a_model_of_transformers_scores_as_in_torch(kind, tmp_path):
    folder = made_by_transformers(kind, tmp_path / "hf")
    encoder = create_encoder(f"hf:{folder}")
    tagger = tagger_of(encoder, clip_seconds=min(2.0, encoder.clip_seconds), pad="")
    found = export_onnx(tagger, tmp_path / "model.onnx")
    assert max(value for value in found.differences.values() if value == value) < 1e-4
    assert 0.5 in found.differences and found.max_samples == encoder.max_samples


@pytest.mark.slow
def test_a_feature_extractor_in_numpy_is_refused(tmp_path):
    folder = made_by_transformers("wav2vec2_bert", tmp_path / "hf")
    with pytest.raises(OnnxError, match="cannot be exported to ONNX"):
        export_onnx(tagger_of(create_encoder(f"hf:{folder}")), tmp_path / "model.onnx")


def test_scores_are_not_all_alike(exported):
    """What is compared says something: scores of different sounds differ by much more than 1e-4."""
    for name in SIX[:3]:
        tagger, _, session = exported(name, **(dict(clip_seconds=17.0) if name == "ast" else {}))
        samples = round(max(3, tagger.clip_seconds) * tagger.sample_rate)
        scores, = session.run(None, {"waveform": trial_sounds(samples, tagger.sample_rate)})
        assert np.ptp(scores, axis=0).max() > 0.1


def test_htsat_is_capped_where_it_would_crop(exported):
    tagger, found, session = exported("htsat")
    assert found.max_samples == 1024 * 320 - 1
    assert "at most 10.24 s (327679 samples); a longer one is refused" in str(found)
    longest = trial_sounds(found.max_samples, 32000)[:1]
    wanted = tagger.computed(tagger.probabilities, longest)
    assert np.allclose(session.run(None, {"waveform": longest})[0], wanted, atol=1e-4)
    with pytest.raises(Exception, match="a_waveform_has_from_1_to_327679_samples"):
        session.run(None, {"waveform": trial_sounds(found.max_samples + 1, 32000)})
    about = session.get_modelmeta().custom_metadata_map
    assert about["max_samples"] == "327679" and "a longer waveform is refused" in about["length"]


def test_the_file_says_what_it_is(exported):
    tagger, found, session = exported("panns")
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["names"]) == PETS and json.loads(about["mids"]) == tagger.mids
    assert (about["sample_rate"], about["window_seconds"], about["max_samples"]) == ("32000", "2", "")
    assert json.loads(about["spa_lib"]) == tagger.description and about["model_sha256"] == "0" * 64
    assert session.get_inputs()[0].shape == ["batch", "samples"] and "any length" in str(found)
    assert session.get_outputs()[0].shape == ["batch", 3]
    with pytest.raises(Exception, match="a_waveform_has_at_least_1_sample"):
        session.run(None, {"waveform": np.zeros((1, 0), np.float32)})


class Means(torch.nn.Module):
    """Traced in a second: means of eight bands of the waveform's differences."""
    embed_dim, sample_rate = 8, 32000

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 8, 9)

    def embed(self, wave, rate):
        return self.conv(wave[:, None]).relu().mean(2)


def wrapped(network, name="means", **options):
    """A tagger around a network that is no encoder of this package."""
    encoder = Wrapped(name, network)
    encoder.options = {}
    model = SPAModel(encoder, np.eye(3, 5, dtype=np.float32), dim=8)
    pets = Ontology.audioset().subset(PETS)
    return Tagger(model, describe_model(model, pets, run=dict(name=name), **options), device="cpu")


def test_a_short_clip_is_repeated_where_the_run_repeated(tmp_path):
    tagger = wrapped(Means(), clip_seconds=2.0, pad="repeat")
    found = export_onnx(tagger, tmp_path / "model.onnx")
    assert max(found.differences.values()) < 1e-4
    wave = trial_sounds(20000, 32000)[:1]
    score, = onnx_session(found.file).run(None, {"waveform": wave})
    assert np.allclose(score, tagger.scores(wave[0], 32000), atol=1e-4)
    assert "filled up by repetition" in onnx_session(found.file).get_modelmeta().custom_metadata_map["length"]


class TestRefused:
    @pytest.fixture
    def shallow(self, monkeypatch, exported):
        """An export that takes no time: the graph of another tagger."""
        import onnx

        _, found, _ = exported("panns")
        proto = onnx.load(found.file)
        del proto.metadata_props[:]
        monkeypatch.setattr("spa_lib.tagger.onnx_file.traced", lambda tagger, most: proto)
        monkeypatch.setattr("spa_lib.tagger.onnx_file.refuse_lengths", lambda proto, most: "")

    def test_other_scores_leave_no_file(self, shallow, tmp_path):
        other = tagger_of("panns")
        torch.nn.init.normal_(other.model.c_a.weight)
        with pytest.raises(OnnxError, match=r"at [\d.]+ s onnxruntime's scores differ from torch's by"):
            export_onnx(other, tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())
        (tmp_path / "model.onnx").write_text("the one of before")
        with pytest.raises(OnnxError):
            export_onnx(other, tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").read_text() == "the one of before"

    def test_what_hears_too_much(self, exported):
        tagger, _, session = exported("panns")
        with pytest.raises(OnnxError, match="which this file has to refuse"):
            differences(session, tagger, 40000, [3.0])

    def test_a_network_that_cannot_be_traced(self, tmp_path):
        class Looks(torch.nn.Module):
            embed_dim, sample_rate = 4, 16000

            def embed(self, wave, rate):
                return wave[:, :4] if float(wave.sum()) > 0 else wave[:, 4:8]

        tagger = wrapped(Looks(), "looks")
        with pytest.raises(OnnxError, match="looks cannot be exported to ONNX: the exporter of torch") as e:
            export_onnx(tagger, tmp_path / "model.onnx")
        assert len(str(e.value).splitlines()) == 1 and not list(tmp_path.iterdir())

    def test_frames_are_no_waveforms(self, tmp_path):
        pets = Ontology.audioset().subset(PETS)
        model = SPAModel(create_encoder("vggish", "tiny"), np.eye(3, 5, dtype=np.float32), dim=8)
        tagger = Tagger(model, describe_model(model, pets), device="cpu")
        with pytest.raises(OnnxError, match="vggish takes frames of AudioSet's released features"):
            export_onnx(tagger, tmp_path / "model.onnx")

    def test_a_place_that_is_none(self, tagger, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
            export_onnx(tagger, tmp_path / "nowhere" / "model.onnx")
        with pytest.raises(IsADirectoryError, match=r"name the file in it, as .*model\.onnx"):
            export_onnx(tagger, tmp_path)

    def test_packages_that_are_missing(self, tagger, tmp_path, monkeypatch):
        monkeypatch.setattr("spa_lib.tagger.onnx_file.find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"pip install 'spa_lib\[onnx\]'"):
            export_onnx(tagger, tmp_path / "model.onnx")
