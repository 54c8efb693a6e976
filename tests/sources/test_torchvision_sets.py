"""Data sets of torchvision: small files in its own layouts, read by torchvision itself."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from PIL import Image
from torch.utils.data import DataLoader

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.sources.open import open_source
from adios_zoo.sources.torchvision_sets import _SETS
from tests.sources.small import Numbers, number_of, numbers, png

SETS = torchvision.datasets


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADIOS_DATASETS", str(tmp_path))
    return tmp_path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def planes(of: list[int], side: int) -> np.ndarray:
    """Images (n, 3, side, side) whose colour is their number, as tests.sources.small makes them."""
    colours = np.array([[number % 256, number // 256, 7] for number in of], np.uint8)
    return np.broadcast_to(colours[:, :, None, None], (len(of), 3, side, side)).copy()


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: object) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5(folder / name)]

    def batch(name: str, of: list[int]) -> list[str]:
        data = {"data": planes(of, 32).reshape(len(of), -1), "labels": [n % 2 for n in of]}
        return write(name, data)

    # The checksums that torchvision asks for are those of the published files.
    monkeypatch.setattr(SETS.CIFAR10, "train_list", [batch(f"data_batch_{i}", [2 * i, 2 * i + 1]) for i in range(5)])
    monkeypatch.setattr(SETS.CIFAR10, "test_list", [batch("test_batch", [300, 301, 302])])
    meta = write("batches.meta", {"label_names": ["even", "odd"]})
    monkeypatch.setattr(SETS.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})


def test_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(root, monkeypatch)
    source = open_source("torchvision:CIFAR10")
    assert source.classes == ("even", "odd")
    assert numbers(source) == list(range(10))
    assert [ref.label for ref in source] == [0, 1] * 5
    assert source[3].id == "torchvision:CIFAR10[3]"
    assert source[3].encoded is None
    assert source[3].read().size == (32, 32)
    test = open_source("torchvision:CIFAR10:test")
    assert numbers(test) == [300, 301, 302]
    assert test.fingerprint() != source.fingerprint() == open_source("torchvision:CIFAR10:train").fingerprint()
    assert number_of(pickle.loads(pickle.dumps(test))[1]) == 301
    loader = DataLoader(Numbers(source), batch_size=4, num_workers=2)
    assert [int(n) for batch, _ in loader for n in batch] == list(range(10))


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir()

    def write(name: str, content: object) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5(folder / name)]

    def part(name: str, of: list[int]) -> list[list[str]]:
        return [write(name, {"data": planes(of, 32).reshape(len(of), -1), "fine_labels": [n % 3 for n in of]})]

    monkeypatch.setattr(SETS.CIFAR100, "train_list", part("train", list(range(12))))
    monkeypatch.setattr(SETS.CIFAR100, "test_list", part("test", [300, 301, 302]))
    meta = write("meta", {"fine_label_names": ["apple", "bear", "cup"]})
    monkeypatch.setattr(SETS.CIFAR100, "meta", {"filename": meta[0], "key": "fine_label_names", "md5": meta[1]})


def test_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(root, monkeypatch)
    source, test = open_source("torchvision:CIFAR100"), open_source("torchvision:CIFAR100:test")
    assert source.classes == test.classes == ("apple", "bear", "cup")
    assert (numbers(source), numbers(test)) == (list(range(12)), [300, 301, 302])
    assert [ref.label for ref in source] == [0, 1, 2] * 4


def test_stl10_with_its_unlabelled_part(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, of in {"train": [0, 1, 2], "test": [3, 4], "unlabeled": [5, 6, 7, 8]}.items():
        planes(of, 96).transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        if part != "unlabeled":
            (np.array(of, np.uint8) % 2 + 1).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("even\nodd\n")
    names = {"train_list": ("train_X", "train_y", "unlabeled_X"), "test_list": ("test_X", "test_y")}
    for attribute, files in names.items():
        stated = [[f"{name}.bin", md5(folder / f"{name}.bin")] for name in files]
        monkeypatch.setattr(SETS.STL10, attribute, stated)
    for split, of, labels in (
        ("train", [0, 1, 2], [0, 1, 0]),
        ("test", [3, 4], [1, 0]),
        ("unlabeled", [5, 6, 7, 8], [-1] * 4),
        ("train+unlabeled", [0, 1, 2, 5, 6, 7, 8], [0, 1, 0, -1, -1, -1, -1]),
    ):
        source = open_source(f"torchvision:STL10:{split}")
        assert numbers(source) == of, split
        assert [ref.label for ref in source] == labels, split
        assert source.classes == ("even", "odd")
        assert source[0].read().size == (96, 96)


def test_flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for number in range(1, 7):
        (folder / "jpg" / f"image_{number:05}.jpg").write_bytes(png(number))
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 3, 4, 5, 102]])})
    splits = {"trnid": [[1, 6]], "valid": [[2, 3]], "tstid": [[4, 5]]}
    scipy.io.savemat(folder / "setid.mat", {key: np.array(ids) for key, ids in splits.items()})
    stated = {
        key: (f"{name}.mat", md5(folder / f"{name}.mat"))
        for key, name in (("label", "imagelabels"), ("setid", "setid"))
    }
    monkeypatch.setattr(SETS.Flowers102, "_file_dict", stated)
    source = open_source("torchvision:Flowers102")
    assert numbers(source) == [1, 6]
    assert [ref.label for ref in source] == [0, 101]
    assert (len(source.classes), source.classes[0]) == (102, "pink primrose")
    assert source[1].id == f"{folder}/jpg/image_00006.jpg"
    assert source[1].encoded is not None
    assert source[1].encoded() == png(6)
    assert numbers(open_source("torchvision:Flowers102:test", root=root)) == [4, 5]
    assert open_source("torchvision:Flowers102:val").fingerprint() != source.fingerprint()


def test_sets_of_folders(root: Path) -> None:
    for number, name in enumerate(("AnnualCrop/1.jpg", "Forest/2.jpg")):
        path = root / "eurosat" / "2750" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(png(number))
    source = open_source("torchvision:EuroSAT")
    assert (source.classes, numbers(source), [ref.label for ref in source]) == (
        ("AnnualCrop", "Forest"),
        [0, 1],
        [0, 1],
    )


def test_mnist_is_grey(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.full((2, 28, 28), 90, np.uint8)
    for part, count in (("train", 2), ("t10k", 2)):
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes([7, 3]))
    source = open_source("torchvision:MNIST:test")
    assert [ref.label for ref in source] == [7, 3]
    assert source[0].read().getpixel((3, 3)) == (90, 90, 90)
    assert isinstance(source[0].read(), Image.Image)


def test_what_is_missing_or_mistyped_is_one_sentence(root: Path) -> None:
    for spec, error, says in (
        ("torchvision:STL10", DataError, rf"in {root} .*ADIOS_DATASETS.*`adios data torchvision:STL10 --download`"),
        ("torchvision:Flowers102", DataError, "--download"),
        ("torchvision:EuroSAT", DataError, "--download"),
        ("torchvision:CIFAR11", ConfigError, "did you mean CIFAR10"),
        ("torchvision:what", ConfigError, "there are CIFAR10, .*STL10"),
        ("torchvision:CIFAR10:valid", ConfigError, "no split 'valid'; write one of train, test"),
        ("torchvision:EuroSAT:train", ConfigError, "write it without one"),
    ):
        with pytest.raises(error, match=says) as caught:
            open_source(spec)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", _SETS)
def test_every_listed_set_is_one_of_torchvision(name: str, root: Path) -> None:
    for split in _SETS[name].splits or ("",):
        with pytest.raises(DataError, match=r"--download|by hand"):
            open_source(f"torchvision:{name}:{split}" if split else f"torchvision:{name}")


def test_a_download_is_asked_for_and_only_then(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(SETS.STL10, "download", lambda self: asked.append(self.root))
    for download in (False, True):
        with pytest.raises(DataError, match="torchvision:STL10"):
            open_source("torchvision:STL10", download=download)
        assert asked == ([root] if download else [])
