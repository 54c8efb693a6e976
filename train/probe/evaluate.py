"""A model, two sets of labelled images, one figure."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from adios_zoo.errors import DataError
from adios_zoo.knn import Distance, knn
from adios_zoo.model import AdiosModel, load_model
from adios_zoo.preprocess import Transform

from ..data import ImageSet, load_images

_BATCH = 250


def evaluate_knn(
    source: str,
    train: str,
    test: str,
    *,
    train_images: int | None = None,
    test_images: int | None = None,
    k: int = 20,
    temperature: float = 0.07,
    distance: Distance = "cosine",
    random_seed: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """k-NN accuracy of a model, with all settings and fingerprints of the data.

    Args:
        source: of the model, see :func:`adios_zoo.load_model`.
        train: labelled images that vote, see :func:`adios_zoo.train.data.load_images`.
        test: labelled images that are judged.
        train_images: only the first so many.
        test_images: only the first so many.
        k: neighbours.
        temperature: of the cosine votes.
        distance: ``cosine`` or ``euclidean``.
        random_seed: draw the encoder's weights anew from this seed instead of loading them.
        device: where the encoder runs.
        progress: draw a progress bar.

    Raises:
        DataError: images without labels, or classes that differ.
    """
    model = load_model(source, device=device)
    if random_seed is not None:
        torch.manual_seed(random_seed)
        model = AdiosModel(model.card).to(device)
    result: dict[str, Any] = {"protocol": "knn", "model": model.card.name, "random_seed": random_seed}
    features, labels = [], []
    classes: list[list[str]] = []
    for role, where, limit in (("train", train, train_images), ("test", test, test_images)):
        data = load_images(where, limit=limit)
        if (data.labels < 0).any():
            raise DataError(f"{where} has images without labels, which k-NN cannot use.")
        features.append(encode(model, data, model.transform, progress=progress))
        labels.append(data.labels)
        classes.append(data.classes)
        result[role] = {"source": where, "images": len(data), "fingerprint": data.fingerprint}
    if classes[0] and classes[1] and classes[0] != classes[1]:
        raise DataError(f"{train} and {test} name other classes or in another order, so their labels do not match.")
    accuracy = knn(features[0], labels[0], features[1], labels[1], k=k, temperature=temperature, distance=distance)
    return result | {
        "k": k,
        "temperature": temperature,
        "distance": distance,
        "acc1": accuracy.acc1,
        "acc5": accuracy.acc5,
    }


@torch.inference_mode()
def encode(model: nn.Module, data: ImageSet, transform: Transform, *, progress: bool = False) -> Tensor:
    """Features (n, D) of all images, each through the model's own transform, on the CPU."""
    device = next(model.parameters()).device
    found = []
    for batch in tqdm(torch.split(data.images, _BATCH), disable=not progress, unit="batch", dynamic_ncols=True):
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch]
        x = torch.stack([transform(picture) for picture in pictures]).to(device)
        found.append(model(x.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(found)
