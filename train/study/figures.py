"""What the encoders of the comparison are judged by, each alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from adios_zoo.errors import DataError
from adios_zoo.search.knn import knn_grid
from adios_zoo.sources.open import open_source

from ..evaluate.accuracy.linear import LinearProbe
from ..evaluate.features import Features, check_labels, labelled, labels_of, matched
from ..evaluate.protocol import protocol
from ..evaluate.robustness.altered import ProbeClassifier
from ..evaluate.robustness.occlusion import OCCLUSIONS, evaluate_occlusion
from ..evaluate.task import Task, accuracies

SHARES = (0.1, 0.25, 0.5, 0.75)  # of the image, hidden


@dataclass(frozen=True)
class Judges:
    """Images that judge, and how many of them.

    Attributes:
        train: labelled images; the first of them vote and fit, the next ones are for choices between settings.
        test: labelled images that no choice is made by.
        transfer_train: labelled images of another set, that vote and fit.
        transfer_test: labelled images of that set, that are judged.
        train_images: the first so many of ``train``.
        validation_images: the next so many.
        test_images: the first so many of ``test``.
        transfer_train_images: likewise.
        transfer_test_images: likewise.
        occluded_images: the first so many of ``test``, hidden in growing shares.
        device: where the encoders run.
    """

    train: str
    test: str
    transfer_train: str
    transfer_test: str
    train_images: int = 10_000
    validation_images: int = 5_000
    test_images: int = 10_000
    transfer_train_images: int = 10_000
    transfer_test_images: int = 5_000
    occluded_images: int = 1_000
    device: str = "cpu"

    def data(self) -> dict[str, dict[str, Any]]:
        """What a record says of each set of images, by role; none is decoded.

        Raises:
            DataError: images without labels, classes that differ, or too few images to judge or to choose by.
        """
        limits = {
            "train": self.train_images + self.validation_images,
            "test": self.test_images,
            "transfer_train": self.transfer_train_images,
            "transfer_test": self.transfer_test_images,
        }
        sets = {role: labels_of(open_source(getattr(self, role)), limit) for role, limit in limits.items()}
        for train, test in (("train", "test"), ("transfer_train", "transfer_test")):
            known = sets[train].labelled
            check_labels(known, matched(sets[test], known).labelled)
        if len(sets["train"]) <= self.train_images:
            raise DataError(
                f"{self.train} has {len(sets['train'])} images; the first {self.train_images} leave none to choose by."
            )
        if min(self.train_images, len(sets["transfer_train"])) < (k := protocol().cells[0].k):
            raise DataError(f"Fewer than {k} images cannot vote; give more training images, and more to transfer to.")
        records = {role: found.record for role, found in sets.items()}
        records["train"]["fitted"], records["test"]["occluded"] = self.train_images, self.occluded_images
        return records

    def figures(self, model: str, *, seed: int, random: bool = False) -> dict[str, Any]:
        """k-NN, linear probe, transfer and occlusion of a model, in percent.

        Args:
            model: see :func:`adios_zoo.train.evaluate.models.load_encoder`.
            seed: of the linear probes and of what is hidden.
            random: draw the encoder's weights from the seed instead of loading them.

        Raises:
            DataError: images that cannot be read.
        """
        task = Task(
            train=self.train,
            test=self.test,
            model=model,
            test_images=self.occluded_images,
            random_seed=seed if random else None,
            device=self.device,
        )

        def features(source: str, limit: int) -> Features:
            return labelled(task.encoder, source, limit=limit, card=task.card)

        known = features(self.train, self.train_images + self.validation_images)
        fitted, choosing = _part(known, slice(self.train_images)), _part(known, slice(self.train_images, None))
        test = matched(features(self.test, self.test_images), known.labelled)
        others = (
            features(self.transfer_train, self.transfer_train_images),
            features(self.transfer_test, self.transfer_test_images),
        )
        others = others[0], matched(others[1], others[0].labelled)
        classifier = ProbeClassifier(task, seed=seed, features=fitted)
        occlusion = evaluate_occlusion(task, kinds=OCCLUSIONS, shares=SHARES, seed=seed, classifier=classifier)
        return {
            "knn_validation": _knn(fitted, choosing),
            "knn": _knn(fitted, test),
            "linear": _accuracy(classifier.probe, test),
            "transfer_knn": _knn(*others),
            "occlusion": {"clean": occlusion["clean"], **occlusion["accuracy"]},
        }


def _part(features: Features, rows: slice) -> Features:
    return replace(features, features=features.features[rows], labels=features.labels[rows])


def _knn(train: Features, test: Features) -> float:
    return knn_grid(train.features, train.labels, test.features, test.labels, protocol().cells)[0].acc1


def _accuracy(probe: LinearProbe, test: Features) -> float:
    return accuracies(probe(test.features), test.labels)["acc1"]
