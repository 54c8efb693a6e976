"""Scores of masks against label maps: the authors' numbers, and scikit-learn's on the pixels themselves."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from adios_zoo.train.evaluate.segmentation.overlap import covering, overlap
from sklearn.metrics import adjusted_rand_score, average_precision_score, jaccard_score

from tests.conftest import golden
from tests.reference import read

FOLDER = golden("segmentation.json", "segmentation.safetensors")
RESULTS = json.loads((FOLDER / "segmentation.json").read_text())
_, T = read(FOLDER / "segmentation.safetensors")
TRUTH = T["gt_labels"][:, 0].numpy().astype(np.uint8)
SETS = [name for name, value in RESULTS.items() if isinstance(value, dict)]


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_reference(name: str, foreground: bool) -> None:
    expected = RESULTS[name]["ignore_background" if foreground else "all_pixels"]
    masks = T[f"{name}.pred_masks"]
    images = [overlap(t, m.argmax(0).numpy(), len(m)) for t, m in zip(TRUTH, masks, strict=True)]
    aris = [image.ari_foreground if foreground else image.ari for image in images]
    assert aris == pytest.approx(expected["average_ari"]["per_image"], abs=1e-6)
    batch = set(np.unique(TRUTH).tolist())
    found = [covering(image, foreground=foreground, batch_labels=batch) for image in images]
    means = {score: float(np.mean([image[score] for image in found])) for score in found[0]}
    assert means == pytest.approx(expected["average_segcover"], abs=1e-6)


def test_the_authors_oddity_is_theirs_alone() -> None:
    masks = T["empty_pairs.pred_masks"]
    image = overlap(TRUTH[0], masks[0].argmax(0).numpy(), len(masks[0]))
    honest = covering(image, foreground=False)
    odd = covering(image, foreground=False, batch_labels=range(5))
    assert odd.pop("mean_ap") == pytest.approx(honest.pop("mean_ap") + 2 / 3)
    assert odd == honest


def test_against_scikit_learn_on_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 3, 200], (9, 11)).astype(np.uint8)
    slots = rng.integers(0, 3, (9, 11))
    found = overlap(truth, slots, 4)  # the last slot has no pixel
    assert found.labels.tolist() == [0, 3, 200]
    for row, label in enumerate((0, 3, 200)):
        for slot in range(4):
            t, s = (truth == label).ravel(), (slots == slot).ravel()
            assert found.iou()[row, slot] == pytest.approx(jaccard_score(t, s, zero_division=0))
            assert found.average_precision()[row, slot] == pytest.approx(average_precision_score(t, s.astype(float)))
    assert found.ari == pytest.approx(adjusted_rand_score(truth.ravel(), slots.ravel()))


def test_an_image_without_objects_has_no_score_of_its_foreground() -> None:
    found = overlap(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.int64), 2)
    assert math.isnan(found.ari_foreground)
    assert all(math.isnan(score) for score in covering(found, foreground=True).values())
    assert covering(found, foreground=False)["mean_sc"] == 1
