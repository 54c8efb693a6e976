"""Image files as sources."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from adios_zoo.errors import DataError
from adios_zoo.images.image import ImageError
from adios_zoo.sources.open import open_source
from tests.sources.small import number_of, numbers, png


def write(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return folder


def test_sub_folders_are_classes_in_name_order(tmp_path: Path) -> None:
    write(tmp_path, "cow/1.png", "ant/deep/er/2.png", "ant/1.png", "loose.png")
    source = open_source(tmp_path)
    assert source.classes == ("ant", "cow")
    assert [(Path(ref.id).relative_to(tmp_path).as_posix(), ref.label) for ref in source] == [
        ("ant/1.png", 0),
        ("ant/deep/er/2.png", 0),
        ("cow/1.png", 1),
        ("loose.png", -1),
    ]
    assert numbers(source) == [2, 1, 0, 3]


def test_flat_folders_globs_lists_and_files_have_no_labels(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "a.png", "sub/c.png")
    (tmp_path / "list.txt").write_text("sub/c.png\nb.png\n")
    for spec, expected in {
        f"{tmp_path}/*.png": [1, 0],
        f"{tmp_path}/**/*.png": [1, 0, 2],
        f"{tmp_path}/list.txt": [2, 0],
        f"{tmp_path}/b.png": [0],
        f"{tmp_path}/sub": [2],
    }.items():
        source = open_source(spec)
        assert numbers(source) == expected, spec
        assert (source.classes, {ref.label for ref in source}) == ((), {-1}), spec


def test_reaching_by_number_and_in_order(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, *(f"{i}.png" for i in range(6))))
    assert len(source) == 6
    assert [number_of(source[i]) for i in (4, 0, -1)] == [4, 0, 5]
    assert numbers(source.iterate(2, 4)) == [2, 3]
    assert numbers(source.iterate(4)) == numbers(source.iterate(4, 99)) == [4, 5]
    for beyond in (6, -7):
        with pytest.raises(IndexError):
            source[beyond]
    assert source[3].encoded is not None
    assert source[3].encoded() == png(3)


def test_pickled_sources_and_references_read_the_same(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "a/0.png", "b/1.png"))
    again = pickle.loads(pickle.dumps(source))
    assert [(ref.id, ref.label) for ref in again] == [(ref.id, ref.label) for ref in source]
    assert number_of(pickle.loads(pickle.dumps(source[1]))) == 1


def test_the_fingerprint_sees_names_order_and_sizes_but_not_the_place(tmp_path: Path) -> None:
    one = open_source(write(tmp_path / "one", "a.png", "b.png")).fingerprint()
    assert open_source(write(tmp_path / "two", "a.png", "b.png")).fingerprint() == one
    assert open_source(write(tmp_path / "three", "a.png", "c.png")).fingerprint() != one
    (tmp_path / "one" / "b.png").write_bytes(b"other")
    assert open_source(tmp_path / "one").fingerprint() != one


def test_broken_and_missing_files_are_image_errors(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("gone.png\nempty.png\n")
    (tmp_path / "empty.png").touch()
    for ref, reason in zip(open_source(tmp_path / "list.txt"), ("no such file", "the file is empty"), strict=True):
        assert ref.encoded is not None
        for read in (ref.read, ref.encoded):
            with pytest.raises(ImageError, match=reason):
                read()
    with pytest.raises(DataError, match="no such file or folder"):
        open_source(tmp_path / "nowhere")
