"""Evaluations of small models on small images: the records they give, what they compare, what they refuse."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from adios_zoo.train.evaluate.accuracy.cluster import agreement, evaluate_cluster
from adios_zoo.train.evaluate.accuracy.finetune import evaluate_finetune
from adios_zoo.train.evaluate.accuracy.knn import evaluate_knn, grid
from adios_zoo.train.evaluate.accuracy.linear import evaluate_linear, evaluate_linear_augmented
from adios_zoo.train.evaluate.models import load_encoder
from adios_zoo.train.evaluate.protocol import Training, protocol
from adios_zoo.train.evaluate.table import table
from adios_zoo.train.evaluate.task import Task, over_seeds
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import save_file

import adios_zoo
from adios_zoo import load_model
from adios_zoo.errors import AdiosError, ConfigError, DataError, DownloadError
from adios_zoo.models.preprocess import make_transform
from adios_zoo.search.knn import Cell
from adios_zoo.sources.open import open_source
from tests.conftest import DATA
from tests.small_models import saved_model, small_model
from tests.train.evaluate.test_features import stored
from tests.train.small import write_images

SHORT = Training(epochs=2, lr=0.05, schedule="cosine", batch_size=8, frozen_statistics=False)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    source = write_images(tmp_path / "a.parquet", 36)
    return Task(train=source, test=source, model=str(saved_model(tmp_path / "m")), test_images=24)


@pytest.mark.skipif(not (DATA / "tiny-imagenet").is_dir(), reason="ADIOS_DATA names no folder with tiny-imagenet/")
def test_the_bundled_encoder_sees_more_than_a_random_one() -> None:
    source = DATA / "tiny-imagenet"
    task = Task(
        train=f"parquet:{source}/train-00000-of-*.parquet",
        test=f"parquet:{source}/valid.parquet",
        train_images=5000,
        test_images=1000,
    )
    trained, random = (evaluate_knn(replace(task, random_seed=seed))["figures"]["acc1"] for seed in (None, 0))
    assert trained > random + 4


def test_knn_of_the_standard_protocol(task: Task) -> None:
    found = evaluate_knn(replace(task, train_images=30))
    assert (found["evaluation"], found["protocol"], found["random_seed"]) == ("knn", "standard", None)
    assert (found["k"], found["distance"], found["temperature"]) == (20, "cosine", 0.07)
    assert (found["train"]["images"], found["test"]["images"]) == (30, 24)
    assert found["train"]["fingerprint"] != found["test"]["fingerprint"]
    assert found["preprocessing"]["crop_pct"] == 0.875
    assert json.loads(json.dumps(found))["figures"] == found["figures"]
    # Each image is its own nearest neighbour.
    assert evaluate_knn(replace(task, device="auto"), [Cell(1)])["figures"] == {"acc1": 100.0, "acc5": 100.0}


def test_the_best_of_a_grid_is_said_to_be_chosen_on_the_test_images(task: Task) -> None:
    task = replace(task, protocol=protocol("paper"))
    cells = grid(task.protocol.cells, k=[1, 3], temperatures=[0.1])
    assert cells == [Cell(k, "cosine", 0.1) for k in (1, 3)] + [Cell(k, "euclidean", None) for k in (1, 3)]
    found = evaluate_knn(task, cells)
    assert "test images" in found["chosen_on"]
    assert len(found["cells"]) == 4
    assert found["figures"]["acc1"] == max(cell["acc1"] for cell in found["cells"])
    assert found["preprocessing"]["crop_pct"] == 0.8
    with pytest.raises(ConfigError, match="cosine votes"):
        grid(task.protocol.cells, distances=["euclidean"], temperatures=[0.1])
    assert "chosen on the test images: the best of 4" in table(found)


def test_random_weights_are_of_their_seed(task: Task) -> None:
    models = [load_encoder(task.model, random_seed=seed).encoder.state_dict() for seed in (1, 1, 2)]
    weights = [state["conv1.0.weight"] if "conv1.0.weight" in state else next(iter(state.values())) for state in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert evaluate_knn(replace(task, random_seed=3))["random_seed"] == 3
    # Nothing is fetched to be thrown away.
    assert load_encoder("resnet18_in100s", random_seed=0).card.input_size == 96


def test_a_record_tells_what_was_evaluated(task: Task, tmp_path: Path) -> None:
    other = small_model()
    with torch.no_grad():
        next(other.encoder.parameters()).mul_(2)
    again, other_weights = saved_model(tmp_path / "again"), other.save_pretrained(tmp_path / "other")
    models = (task.model, str(again), str(other_weights))
    records = [replace(task, model=model).record("knn", packages=["numpy", "gone"], test={}) for model in models]
    assert [record.pop("model_source") for record in records] == list(models)
    assert records[0] == records[1]
    assert records[2] == records[0] | {"weights": records[2]["weights"]}
    assert records[2]["weights"] != records[0]["weights"]
    assert records[0]["device"] == "cpu"
    assert records[0]["masker_weights"] not in (None, records[0]["weights"])
    assert records[0]["versions"] == {
        "adios-zoo": adios_zoo.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "gone": "unknown",
    }
    assert replace(task, random_seed=1).record("knn", test={})["weights"] != records[0]["weights"]


def test_a_model_of_timms_with_its_own_preprocessing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    model = load_encoder("timm:test_resnet.r160_in1k", random_seed=0)
    card = model.card
    assert (card.input_size, card.crop_pct, card.mean, card.masker) == (160, 0.95, (0.5, 0.5, 0.5), None)
    picture = open_source(task.test)[0].read()
    theirs = timm.data.create_transform(
        **timm.data.resolve_model_data_config(timm.create_model("test_resnet.r160_in1k")), is_training=False
    )
    torch.testing.assert_close(make_transform(card)(picture), theirs(picture))
    with pytest.raises(DownloadError, match=r"ADIOS_OFFLINE forbids .*hf download timm/test_resnet.*--random"):
        load_encoder("timm:test_resnet.r160_in1k")
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        load_encoder("timm:resnet18x")
    found = evaluate_knn(
        replace(task, model="timm:test_resnet", random_seed=0, train_images=4, test_images=2), [Cell(2)]
    )
    assert found["model"] == "timm:test_resnet"


def test_weights_of_timms_come_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    whole = timm.create_model("test_resnet")
    commit, repo = 40 * "a", tmp_path / "models--timm--test_resnet.r160_in1k"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    save_file(whole.state_dict(), repo / "snapshots" / commit / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    x = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = whole.eval().forward_head(whole.forward_features(x), pre_logits=True)
        torch.testing.assert_close(load_encoder("timm:test_resnet")(x), expected, rtol=1e-4, atol=1e-5)


def test_linear_on_the_fly_and_stored(task: Task, tmp_path: Path) -> None:
    found = evaluate_linear(task, seeds=[0, 1], steps=60)
    assert found["seeds"] == [0, 1]
    assert len(found["figures"]["acc1"]["values"]) == 2
    assert found["figures"]["acc1"]["mean"] > 90  # judged by the images that it was fitted to
    assert found["fit"] == {"optimiser": "adam", "schedule": "cosine", "lr": 0.01, "batch_size": 1024, "steps": 60}
    assert found["weight_decay_chosen"]["from"] == [1, 10, 100, 1000]
    assert "training images" in found["weight_decay_chosen"]["on"]
    file = stored(tmp_path, task.test)
    same = evaluate_linear(Task(train=file, test=file, model="no such model"), seeds=[0], steps=60, weight_decay=1.0)
    assert same["model"] == "test_resnet_shapes_simclr"
    assert (same["weight_decay"], same["weight_decay_chosen"]) == ([1.0], None)
    assert same["train"]["extracted"]["model"] == str(tmp_path / "m")
    assert same["figures"]["acc1"]["std"] is None
    with pytest.raises(ConfigError, match="random"):
        evaluate_linear(Task(train=file, test=file, random_seed=0))
    with pytest.raises(ConfigError, match="cropped already"):
        evaluate_linear(Task(train=file, test=file, protocol=protocol(crop_pct=0.5)))
    with pytest.raises(ConfigError, match="twice"):
        evaluate_linear(task, seeds=[1, 1])
    with pytest.raises(ConfigError, match="from 0 to 4294967295"):
        evaluate_linear(task, seeds=[-1])
    with pytest.raises(ConfigError, match="--train"):
        evaluate_linear(replace(task, train=""))
    for limits in ({"train_images": 0}, {"test_images": -1}):
        with pytest.raises(ConfigError, match="from 1 up"):
            replace(task, **limits)


def test_linear_on_augmented_images_leaves_the_encoder_alone(task: Task, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    found = evaluate_linear_augmented(task, replace(SHORT, lr=0.5, epochs=4), seeds=[0, 1])
    assert all(torch.equal(value, before[name]) for name, value in task.encoder.state_dict().items())
    assert found["training"]["epochs"] == 4
    values = found["figures"]["acc1"]["values"]
    assert len(values) == 2
    assert max(values) > 50  # chance is a third
    again = evaluate_linear_augmented(task, replace(SHORT, lr=0.5, epochs=4), seeds=[1])
    assert again["figures"]["acc1"]["values"] == values[1:]
    file = stored(tmp_path, task.test)
    with pytest.raises(ConfigError, match="stored features"):
        evaluate_linear_augmented(replace(task, train=file, test=file), SHORT)


def test_finetuning_changes_a_copy_and_saves_on_request(task: Task, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    training = replace(SHORT, epochs=6, lr=0.1, sizes=(16, 32))
    found = evaluate_finetune(task, training, output=tmp_path / "tuned")
    assert all(torch.equal(value, before[name]) for name, value in task.encoder.state_dict().items())
    assert found["figures"]["acc1"]["mean"] > 50
    assert found["training"]["sizes"] == (16, 32)
    assert 0 < found["last_losses"][0] < math.log(3)
    tuned = load_model(tmp_path / "tuned")
    assert tuned.masker is None
    with safe_open(tmp_path / "tuned" / "classifier.safetensors", "pt") as file:
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        assert json.loads(file.metadata()["classes"]) == ["disc", "stripe", "square"]
    source = open_source(task.test)
    transform = make_transform(protocol().preprocessing(tuned.card))
    x = torch.stack([transform(source[i].read()) for i in range(24)])
    with torch.inference_mode():
        right = (tuned(x) @ weight.T + bias).argmax(1) == torch.tensor([source[i].label for i in range(24)])
    assert 100 * float(right.float().mean()) == pytest.approx(found["figures"]["acc1"]["mean"], abs=4.5)
    assert json.loads((tmp_path / "tuned" / "evaluation.json").read_text())["figures"] == found["figures"]


@pytest.mark.parametrize("most_bytes", [0, 8 << 30], ids=["files", "in memory"])
def test_images_that_cannot_be_read_are_left_out_named_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], most_bytes: int
) -> None:
    monkeypatch.setattr("adios_zoo.train.data.feed._MOST_BYTES", most_bytes)
    model, test = str(saved_model(tmp_path / "m")), write_images(tmp_path / "b.parquet", 6, 16)
    one = Task(train=write_images(tmp_path / "a.parquet", 120, 16, broken=(7,)), test=test, model=model)
    short = replace(SHORT, epochs=1, batch_size=60)
    record = evaluate_linear_augmented(one, short, seeds=[0, 1], workers=0)["train"]
    assert (record["images"], record["unreadable"]) == (119, 1)
    assert capsys.readouterr().err.count("a.parquet[7]") == 1
    many = replace(one, train=write_images(tmp_path / "c.parquet", 120, 16, broken=(7, 8)))
    with pytest.raises(DataError, match="2 of 120 images"):
        evaluate_linear_augmented(many, short, workers=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norms_follow_the_images_or_stay(task: Task, tmp_path: Path, frozen: bool) -> None:
    evaluate_finetune(task, replace(SHORT, epochs=1, frozen_statistics=frozen), output=tmp_path / "tuned")
    tuned, own = load_model(tmp_path / "tuned"), task.encoder
    name = next(name for name, _ in own.encoder.named_buffers() if name.endswith("running_mean"))
    assert torch.equal(tuned.encoder.state_dict()[name], own.encoder.state_dict()[name]) == frozen


def test_an_output_that_holds_something_else_is_refused_before_training(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be trained")

    monkeypatch.setattr("adios_zoo.train.evaluate.accuracy.finetune.TrainingImages", forbidden)
    with pytest.raises(ConfigError, match="is the model that is to be trained"):
        evaluate_finetune(task, SHORT, output=tmp_path / "m")
    other = saved_model(tmp_path / "other")
    with pytest.raises(ConfigError, match="holds something else"):
        evaluate_finetune(task, SHORT, output=other)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        evaluate_finetune(task, SHORT, output=tmp_path / "file")
    (other / "evaluation.json").touch()  # of an earlier fine-tuning
    with pytest.raises(AssertionError, match="nothing may be trained"):
        evaluate_finetune(task, SHORT, output=other)


def test_training_that_cannot_go_well_is_told(task: Task) -> None:
    with pytest.raises(AdiosError, match="not finite"):
        evaluate_finetune(task, replace(SHORT, lr=1e30))
    vit = replace(task, model="timm:vit_tiny_patch16_224", random_seed=0)
    with pytest.raises(
        ConfigError, match=r"timm:vit_tiny_patch16_224 takes no images of 32 pixels .*leave --sizes out"
    ):
        evaluate_finetune(vit, replace(SHORT, sizes=(32,)))
    with pytest.raises(ConfigError, match="larger than the data"):
        evaluate_finetune(task, replace(SHORT, batch_size=128))


def test_clusters(task: Task) -> None:
    found = evaluate_cluster(replace(task, train=""), seeds=[0, 1], starts=2)
    assert found["clusters"] == found["classes"] == 3
    assert "train" not in found
    assert set(found["figures"]) == {"accuracy", "FMI", "ARI", "NMI"}
    both = evaluate_cluster(replace(task, protocol=protocol("paper")), seeds=[0], starts=2)
    assert both["clusters"] == 2  # max(label)
    assert {"train ARI", "ARI"} <= set(both["figures"])
    with pytest.raises(ConfigError, match="clusters is 25"):
        evaluate_cluster(replace(task, train=""), clusters=25)
    with pytest.raises(ConfigError, match=r"of one class.*--clusters"):
        evaluate_cluster(replace(task, train="", test_images=1, protocol=protocol("paper")))


def test_agreement_of_clusters_and_classes() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert agreement(labels, np.array([7, 7, 5, 5, 6, 6])) == pytest.approx(
        {"accuracy": 100.0, "FMI": 1.0, "ARI": 1.0, "NMI": 1.0}
    )
    mixed = agreement(labels, np.array([0, 0, 0, 0, 1, 1]))
    assert mixed["accuracy"] == pytest.approx(100 * 4 / 6)  # one class has no cluster of its own
    assert mixed["FMI"] == pytest.approx(math.sqrt(3 / 7))  # 3 pairs together in both, of 7 and of 3


def test_a_table_shows_the_spread_over_seeds() -> None:
    result: dict[str, Any] = {
        "evaluation": "linear",
        "model": "m",
        "protocol": "standard",
        "random_seed": 0,
        "test": {"images": 5},
        "figures": {**over_seeds([{"acc1": 10.0}, {"acc1": 12.0}]), "ARI": 0.5},
    }
    lines = table(result).splitlines()
    assert lines[0] == "linear of m, random weights, protocol standard, 5 test images"
    assert lines[1].split() == ["top-1", "accuracy,", "%", "11.00", "±", "1.41", "(2", "seeds)"]
    assert lines[2].split() == ["ARI", "0.5"]
    assert small_model().card.name not in lines[0]
    assert table(result | {"model": None}).startswith("linear of stored features,")
