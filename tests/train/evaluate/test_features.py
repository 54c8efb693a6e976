"""Features of labelled images: on the fly as the transform says, or stored with their labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.evaluate.accuracy import finetune, linear
from adios_zoo.train.evaluate.accuracy.finetune import evaluate_finetune
from adios_zoo.train.evaluate.accuracy.linear import evaluate_linear_augmented
from adios_zoo.train.evaluate.accuracy.supervised import TrainingImages
from adios_zoo.train.evaluate.features import Features, features_of, is_stored, stored_features, two_sets
from adios_zoo.train.evaluate.protocol import Training, protocol
from adios_zoo.train.evaluate.robustness.altered import ProbeClassifier, judge
from adios_zoo.train.evaluate.task import Task
from adios_zoo.train.recipe.settings import ObserveSettings
from adios_zoo.train.report.observe import choose_shown

from adios_zoo.cli import main
from adios_zoo.errors import BackendError, ConfigError, DataError
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.models.preprocess import make_transform
from adios_zoo.sources.open import open_source
from tests.small_models import saved_model, small_model
from tests.train.small import CLASSES, write_images


def stored(folder: Path, source: str, name: str = "f.parquet") -> str:
    path = str(folder / name)
    if not (folder / "m").is_dir():
        saved_model(folder / "m")
    assert main(["extract", source, "-o", path, "--model", str(folder / "m"), "--device", "cpu", "--quiet"]) == 0
    return path


@pytest.mark.parametrize("crop_pct", [None, 0.5])
def test_features_are_those_of_the_transform(tmp_path: Path, crop_pct: float | None) -> None:
    source, model = write_images(tmp_path / "a.parquet", count=7, side=48), small_model()
    card = model.card if crop_pct is None else protocol(crop_pct=crop_pct).preprocessing(model.card)
    found = features_of(model, source, limit=5, card=None if crop_pct is None else card)
    transform = make_transform(card)
    with torch.inference_mode():
        expected = torch.cat([model(transform(open_source(source)[i].read())[None]) for i in range(5)])
    assert float(torch.cosine_similarity(found.features, expected).min()) > 0.999
    assert found.labels.tolist() == [0, 1, 2, 0, 1]
    assert found.classes == tuple(CLASSES)
    assert found.record["images"] == 5
    with pytest.raises(BackendError, match="another card is for torch"):
        FeatureExtractor("m", backend="onnx", card=card)
    assert found.record["fingerprint"] != features_of(model, source).record["fingerprint"]


def test_stored_features_have_the_labels(tmp_path: Path) -> None:
    source = write_images(tmp_path / "a.parquet", count=9, broken=(4,))
    path = str(tmp_path / "f.parquet")
    saved_model(tmp_path / "m")
    call = ["extract", source, "-o", path, "--model", str(tmp_path / "m"), "--device", "cpu", "--quiet"]
    assert main([*call, "--skip-bad"]) == 0
    found = stored_features(path)
    assert found.labels.tolist() == [0, 1, 2, 0, 2, 0, 1, 2]
    assert found.classes == tuple(CLASSES)
    assert found.record["extracted"]["card"] == "test_resnet_shapes_simclr"
    part = stored_features(path, limit=3)
    torch.testing.assert_close(part.features, found.features[:3])
    assert len(part) == len(part.labels) == 3
    assert is_stored(path)
    assert is_stored(f"parquet:{path}")
    assert torch.equal(stored_features(f"parquet:{path}").features, found.features)
    assert is_stored(str(tmp_path / "f*.parquet"))
    assert not is_stored(source)
    assert not is_stored(str(tmp_path / "a.parquet"))


def test_both_ways_give_the_same_sets(tmp_path: Path) -> None:
    train, test = write_images(tmp_path / "a.parquet", 12), write_images(tmp_path / "b.parquet", 6)
    files = stored(tmp_path, train, "f.parquet"), stored(tmp_path, test, "g.parquet")
    for one, other in zip(two_sets(small_model(), train, test), two_sets(None, *files), strict=True):
        torch.testing.assert_close(one.features, other.features, rtol=1e-4, atol=1e-5)
        assert torch.equal(one.labels, other.labels)
    with pytest.raises(ConfigError, match="mixture"):
        two_sets(small_model(), train, files[1])


def test_what_does_not_match_is_refused(tmp_path: Path) -> None:
    model, source = small_model(), write_images(tmp_path / "a.parquet", 6)
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.drop_columns("label"), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="without labels"):
        two_sets(model, source, f"parquet:{tmp_path}/b.parquet")
    file = stored(tmp_path, f"parquet:{tmp_path}/b.parquet")
    with pytest.raises(DataError, match="no labels"):
        two_sets(None, file, file)
    features = pq.read_table(file)
    for labels, says in {
        (0.1, 0.5, 0.9, 1.0, 1.1, 2.0): "column 'label' holds double values that are no whole numbers",
        ("a", "b", "a", "b", "a", "b"): "column 'label' holds string values",
        (0, 1, 2, 0, 1, None): "without labels",
        (0, 1, 2, 0, 1, 10**9): "has 6 images, but the label 1000000000",
    }.items():
        pq.write_table(features.append_column("label", pa.array(labels)), tmp_path / "e.parquet")
        with pytest.raises(DataError, match=says):
            two_sets(None, *2 * [str(tmp_path / "e.parquet")])
    beyond = table.set_column(1, "label", pa.array([0, 1, 2, 0, 1, 3]))
    pq.write_table(beyond, tmp_path / "g.parquet")
    with pytest.raises(DataError, match=r"g\.parquet names only 3 classes, but the label 3"):
        two_sets(model, source, f"parquet:{tmp_path}/g.parquet")
    renamed = {b"huggingface": table.schema.metadata[b"huggingface"].replace(b"disc", b"dish")}
    pq.write_table(table.replace_schema_metadata(renamed), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="other classes"):
        two_sets(model, source, f"parquet:{tmp_path}/c.parquet")
    with pytest.raises(DataError, match="cannot be read, too many"):
        features_of(model, write_images(tmp_path / "d.parquet", 6, broken=(1, 2)))
    with pytest.raises(ConfigError, match="from 1 up"):
        features_of(model, source, limit=0)
    assert isinstance(features_of(model, source, limit=100), Features)


def named(path: Path, labels: list[str]) -> str:
    """Images in random colours, with the names of their classes in place of numbers."""
    write_images(path, len(labels))
    table = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels)), path)
    return f"parquet:{path}"


def test_the_classes_of_the_training_images_decide(tmp_path: Path) -> None:
    train = named(tmp_path / "a.parquet", ["cow", "ant", "bee", "ant"])
    test = named(tmp_path / "b.parquet", ["cow", "bee", "cow"])
    more = named(tmp_path / "c.parquet", ["bee", "dog", "cow"])
    files = [stored(tmp_path, source, f"{name}.parquet") for name, source in (("f", train), ("g", test), ("h", more))]
    for model, sources in ((small_model(), (train, test, more)), (None, files)):
        learnt, judged = two_sets(model, *sources[:2])
        assert learnt.classes == judged.classes == ("ant", "bee", "cow")
        assert learnt.labels.tolist() == [2, 0, 1, 0]
        assert judged.labels.tolist() == [2, 1, 2]
        with pytest.raises(DataError, match=r"name other classes; the first lacks 'dog', so their labels do not match"):
            two_sets(model, sources[0], sources[2])


def test_every_evaluation_and_a_run_take_the_classes_of_the_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = named(tmp_path / "a.parquet", 4 * ["cow", "ant", "bee"])
    test, more = named(tmp_path / "b.parquet", ["cow", "bee"]), named(tmp_path / "c.parquet", ["cow", "dog"])
    task = Task(train=train, test=test, model=str(saved_model(tmp_path / "m")))
    training = Training(epochs=1, lr=0.1, schedule="cosine", batch_size=4)
    seen = []
    for module in (finetune, linear):
        monkeypatch.setattr(module, "accuracies", lambda logits, labels: seen.append(labels.tolist()) or {"top1": 0.0})
    evaluate_finetune(task, training, workers=0)
    evaluate_linear_augmented(task, training, workers=0)
    assert seen == [[2, 1], [2, 1]]
    with pytest.raises(DataError, match="the first lacks 'dog'"):
        TrainingImages(replace(task, test=more), training)
    classifier = ProbeClassifier(task, seed=0)
    monkeypatch.setattr(classifier, "predict", lambda images: torch.tensor([2, 1]))
    assert judge(classifier, test, lambda images, number: ()).clean == 100
    shown = choose_shown(open_source(train), open_source(test), ObserveSettings(), seed=0, side=8)
    assert shown.queries is not None
    assert sorted(shown.queries.labels.tolist()) == [1, 2]
    with pytest.raises(DataError, match="the first lacks 'dog'"):
        choose_shown(open_source(train), open_source(more), ObserveSettings(), seed=0, side=8)
