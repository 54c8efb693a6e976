"""Fine-tuning: the whole network learns the labels, from the encoder's weights on."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adios_zoo.errors import ConfigError
from adios_zoo.files import write_tensors, write_text
from adios_zoo.models.model import AdiosModel

from ..features import features_of, matched
from ..protocol import Training
from ..task import Task, accuracies, check_seeds, over_seeds
from .supervised import Classifier, TrainingImages, seeded

CLASSIFIER = "classifier.safetensors"
FIGURES = "evaluation.json"


def evaluate_finetune(
    task: Task,
    training: Training | None = None,
    *,
    seeds: Sequence[int] = (0,),
    workers: int | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Accuracy of the network after training all of it on labelled images.

    The test images are looked at once, when the training is over.

    Args:
        task: the model and the images.
        training: by default the protocol's.
        seeds: for each of which the network is trained anew.
        workers: see :class:`~adios_zoo.train.evaluate.accuracy.supervised.TrainingImages`.
        output: folder for the model after training with the first seed, its classifier, and the record.

    Raises:
        ConfigError: an impossible setting, stored features, or an output folder that holds something else.
        DataError: images without labels, or classes that differ.
        AdiosError: the loss is not finite.
    """
    seeds = check_seeds(seeds)
    if output is not None:
        _check_output(output, task.model)
    training = training or task.protocol.finetune
    data = TrainingImages(task, training, workers=workers)
    runs, losses, first = [], [], None
    for seed in seeds:
        with seeded(seed, "finetune"):
            encoder = copy.deepcopy(task.encoder.encoder)
            classifier = Classifier(encoder, data.classes, task.card, frozen=False).to(data.device)
            losses.append(data.train(classifier, seed=seed, progress=task.progress))
        test = features_of(classifier, task.test, limit=task.test_images, progress=task.progress)
        test = matched(test, data.labelled)
        runs.append(accuracies(test.features, test.labels))
        first = first or classifier
    record = task.record("finetune", train=data.record, test=test.record) | {
        "classes": data.classes,
        "training": asdict(training),
        "last_losses": losses,
        "seeds": seeds,
        "figures": over_seeds(runs),
    }
    if output is not None and first is not None:
        _save(first, record, task, data, output)
    return record


def _check_output(folder: Path, model: str) -> None:
    """Refuse, before anything is trained, to write over what no fine-tuning wrote, or over what is to be tuned."""
    if folder.exists() and Path(model).exists() and folder.samefile(model):
        raise ConfigError(f"{folder} is the model that is to be trained; name another folder.")
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / FIGURES).exists())):
        raise ConfigError(f"{folder} holds something else than a fine-tuned model; name another folder.")


def _save(classifier: Classifier, record: dict[str, Any], task: Task, data: TrainingImages, folder: Path) -> None:
    card = task.encoder.card
    name = card.name.replace(":", "_").replace("/", "_")
    card = card.replace(
        name=f"{name}_finetuned",
        summary=f"{card.name} fine-tuned on the labels of {data.record['source']}.",
        masker=None,
        aliases=(),
        figures=(),
        files={},
        training={**card.training, "fine_tuning": record["training"]},
    )
    model = AdiosModel(card)
    model.encoder.load_state_dict(classifier.encoder.state_dict())
    model.save_pretrained(folder)
    names = json.dumps(list(data.stream.classes))
    write_tensors(folder / CLASSIFIER, classifier.head.state_dict(), {"format": "pt", "classes": names})
    write_text(folder / FIGURES, json.dumps(record, indent=2) + "\n")
