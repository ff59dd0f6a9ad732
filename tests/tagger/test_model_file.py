"""The model that a finished run keeps: everything to use it again, and nothing that could run."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spa_lib.beyond import BRANCHES
from spa_lib.data import Clips
from spa_lib.encoders import CheckpointError, create_encoder
from spa_lib.model import SPAModel, predict
from spa_lib.ontology import Ontology
from spa_lib.runs import find_runs, make_config
from spa_lib.tagger import FILES, describe_model, load_model, save_model
from spa_lib.train import load_data, train

TINY = make_config("smoke", encoder="mn", n_train=24, n_eval=16, bootstrap=0, epochs=1)
SIX = ("psla", "panns", "ast", "passt", "htsat", "mn")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run whose encoder was trained, one whose encoder was frozen."""
    folder = tmp_path_factory.mktemp("runs")
    frozen = replace(TINY, freeze=True, mixup_rate=0.0, text_branch="centred", hidden=32, dropout=0.2)
    return {name: train(cfg, folder, progress=False) for name, cfg in (("trained", TINY), ("frozen", frozen))}


@pytest.mark.parametrize("name", ["trained", "frozen"])
def test_the_model_of_a_run_gives_the_scores_of_the_run(runs, name):
    run = runs[name]
    model, description = load_model(run.folder)
    assert [row["mid"] for row in description["classes"]] == list(run.mids)
    data = load_data(run.config, description["sample_rate"])
    assert isinstance(data.evaluate, Clips)
    waves = [data.evaluate[i][0] for i in range(len(data.evaluate))]
    with torch.no_grad():
        scores = torch.sigmoid(model(torch.stack(waves), description["sample_rate"])[0]).numpy()
    assert np.allclose(scores, run.scores, atol=1e-5)


def test_a_run_describes_itself(runs):
    _, about = load_model(runs["frozen"].folder)
    assert about["kind"] == "spa" and about["encoder"]["name"] == "mn" and about["encoder"]["size"] == "tiny"
    assert about["heads"] == dict(dim=64, hidden=32, dropout=0.2, text_branch="centred")
    assert about["text"] == dict(model="minilm", method="concat")
    assert (about["sample_rate"], about["clip_seconds"], about["pad"]) == (32000, 2.0, "zero")
    assert about["classes"][0].keys() == {"mid", "name", "path"}
    assert about["run"]["name"] == runs["frozen"].folder.name and "root" not in about["run"]["config"]
    assert about["scores"]["mAP"] == runs["frozen"].metrics["mAP"] and about["scores"]["clips_hash"]
    assert {"spa_lib", "torch", "python"} == set(about["versions"])
    assert json.loads((runs["frozen"].folder / "model.json").read_text()) == about


def test_the_model_is_there_before_the_run_is_finished(tmp_path, monkeypatch):
    def killed(*a):
        assert (a[0] / "model.safetensors").exists() and (a[0] / "model.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("spa_lib.train.write_results", killed)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path, progress=False)
    assert not find_runs(tmp_path)


def test_a_run_from_before_can_be_given_its_model(runs, tmp_path):
    """As the error says: metrics.json away, trained once more; nothing is trained again."""
    run = runs["trained"]
    copy = tmp_path / run.folder.name
    shutil.copytree(run.folder, copy)
    for name in FILES:
        (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match="move its metrics.json away"):
        load_model(copy)
    (copy / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="is not finished"):
        load_model(copy)
    again = train(run.config, tmp_path, progress=False)
    assert np.array_equal(again.scores, run.scores)
    assert (copy / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", SIX)
def test_every_encoder_once_round(name, tmp_path):
    ontology = Ontology.audioset().subset(["Dog", "Bark", "Cat"])
    encoder = create_encoder(name, "tiny", clip_seconds=2.0, augment="recipe")
    model = SPAModel(encoder, np.eye(3, 5, dtype=np.float32), dim=8).eval()
    save_model(tmp_path, model, describe_model(model, ontology, clip_seconds=2.0))
    state = torch.random.get_rng_state()
    again, _ = load_model(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state), "loading draws nothing"
    wave = 0.1*torch.randn(2, 2*encoder.sample_rate)
    with torch.no_grad():
        assert torch.equal(again(wave)[0], model(wave)[0])
        started = create_encoder(name, checkpoint=tmp_path / "model.safetensors")
        assert torch.equal(started.embed(wave), encoder.embed(wave))
        assert torch.equal(started(wave), encoder(wave))
    assert started.size == "tiny" and started.clip_seconds == 2.0 and started.augment is None
    assert started.checkpoint["name"] == "model.safetensors"



@pytest.mark.parametrize("branch", sorted(BRANCHES))
def test_every_text_branch_once_round(branch, tmp_path):
    ontology = Ontology.audioset().subset(["Dog", "Bark", "Cat"])
    T_hat = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    model = SPAModel(create_encoder("mn", "tiny"), T_hat, 8, BRANCHES[branch], hidden=4).eval()
    for parameter in model.text.parameters():
        torch.nn.init.normal_(parameter)
    save_model(tmp_path, model, describe_model(model, ontology))
    again, about = load_model(tmp_path)
    assert about["heads"]["text_branch"] == branch
    torch.testing.assert_close(again.label_embeddings(), model.label_embeddings())
    E_a = torch.randn(2, 8)
    torch.testing.assert_close(again.classify(E_a), model.classify(E_a))


def test_a_run_starts_from_the_model_of_a_run(runs, tmp_path):
    """The fine-tuning of what another run has learned: `checkpoint=RUN/model.safetensors`."""
    path = runs["trained"].folder / "model.safetensors"
    cfg = replace(TINY, checkpoint=str(path), epochs=0)
    run = train(cfg, tmp_path, progress=False)
    first, second = load_file(path), load_file(run.folder / "model.safetensors")
    own = [key for key in first if key.startswith("encoder.")]
    assert own and all(torch.equal(first[key], second[key]) for key in own)
    assert run.metrics["checkpoint"]["name"] == "model.safetensors"


def test_official_heads_keep_their_classes(shared, tmp_path):
    from spa_lib.encoders import OfficialHead

    file = shared / "models" / "mn04_as_mAP_432.pt"
    encoder = create_encoder("mn", checkpoint=file)
    pets = Ontology.audioset().subset(["Dog", "Cat"])
    model = OfficialHead(encoder, [Ontology.audioset().index(m) for m in pets.mids]).eval()
    save_model(tmp_path, model, describe_model(model, pets))
    again, about = load_model(tmp_path)
    wave = 0.1*torch.randn(1, 64000)
    with torch.no_grad():
        assert torch.equal(again(wave)[0], model(wave)[0])
    assert about["kind"] == "official" and about["encoder"]["checkpoint"]["name"] == file.name


class TestWrongFiles:
    def copied(self, runs, tmp_path):
        for name in FILES:
            shutil.copy(runs["trained"].folder / name, tmp_path / name)
        return tmp_path

    def changed(self, folder, change):
        """The model once more, with another description."""
        about = json.loads((folder / "model.json").read_text())
        change(about)
        save_file(load_file(folder / FILES[0]), folder / FILES[0], {"spa_lib": json.dumps(about)})
        (folder / "model.json").write_text(json.dumps(about))

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            load_model(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match="holds no model"):
            load_model(tmp_path)

    def test_the_file_alone_is_enough_under_any_name(self, runs, tmp_path):
        shutil.copy(runs["trained"].folder / FILES[0], tmp_path / "mine.safetensors")
        assert load_model(tmp_path / "mine.safetensors").description["kind"] == "spa"
        assert create_encoder("mn", checkpoint=tmp_path / "mine.safetensors").size == "tiny"

    def test_of_a_later_version(self, runs, tmp_path):
        folder = self.copied(runs, tmp_path)
        self.changed(folder, lambda about: about.update(format=99))
        with pytest.raises(ValueError, match="in format 99.*reads formats up to 1: pip install -U"):
            load_model(folder)

    def test_of_a_version_with_other_layers(self, runs, tmp_path):
        folder = self.copied(runs, tmp_path)
        self.changed(folder, lambda about: about["encoder"]["options"].update(width=0.9))
        with pytest.raises(CheckpointError, match="does not fit the mn of spa_lib"):
            load_model(folder)

    def test_a_description_that_was_edited(self, runs, tmp_path):
        folder = self.copied(runs, tmp_path)
        about = json.loads((folder / "model.json").read_text()) | dict(clip_seconds=77.0)
        (folder / "model.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match="does not describe the model beside it"):
            load_model(folder)

    def test_a_file_that_was_cut(self, runs, tmp_path):
        path = self.copied(runs, tmp_path) / FILES[0]
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(CheckpointError, match="is cut off after"):
            load_model(tmp_path)

    def test_another_encoder_or_size(self, runs):
        path = runs["trained"].folder / FILES[0]
        with pytest.raises(CheckpointError, match="a model with the encoder mn"):
            create_encoder("ast", checkpoint=path)

    def test_no_model_at_all(self, tmp_path):
        save_file({"a": torch.zeros(1)}, tmp_path / FILES[0])
        with pytest.raises(CheckpointError, match="is no model of a run"):
            load_model(tmp_path)

    def test_a_folder_that_cannot_be_written(self, runs, tmp_path):
        model, about = load_model(runs["trained"].folder)
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(OSError, match="the model, .* bytes, could not be written in"):
            save_model(tmp_path / "file", model, about)

    def test_an_encoder_that_nobody_could_make_again(self):
        encoder = create_encoder("mn", "tiny")
        encoder.options = None
        model = SPAModel(encoder, np.eye(3), dim=8)
        with pytest.raises(ValueError, match="make it with create_encoder"):
            describe_model(model, Ontology.audioset().subset(["Dog", "Bark", "Cat"]))


def test_predict_takes_a_loaded_model(runs):
    model, about = load_model(runs["trained"].folder)
    data = load_data(runs["trained"].config, about["sample_rate"])
    from spa_lib.data import batches

    assert np.allclose(predict(model, batches(data.evaluate, 8)), runs["trained"].scores, atol=1e-6)
