from __future__ import annotations

import os
from pathlib import Path

import pytest

from adios_zoo.errors import DataError
from adios_zoo.find import find_images, path_id


def test_a_folder_is_taken_in_name_order(tmp_path: Path) -> None:
    for name in (
        "b.PNG",
        "a/z.jpg",
        "a-1.jpg",
        "c.txt",
        "d.h5",
        ".hidden.jpg",
        ".cache/e.jpg",
        "broken.jpeg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a-1.jpg", "a/z.jpg", "b.PNG", "broken.jpeg"]


def test_globs_lists_files_and_sequences(tmp_path: Path) -> None:
    for name in ("2.jpg", "10.jpg", "sub/1.jpg", "odd[1].jpg", "raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(source: object) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_images(source)]

    assert names(str(tmp_path / "*.jpg")) == ["10.jpg", "2.jpg", "odd[1].jpg"]
    assert names(str(tmp_path / "**" / "*.jpg")) == ["10.jpg", "2.jpg", "odd[1].jpg", "sub/1.jpg"]
    assert names(tmp_path / "odd[1].jpg") == ["odd[1].jpg"]
    assert names(tmp_path / "raw") == ["raw"]
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeff2.jpg\r\n\n# a comment\nsub/1.jpg\nmissing.jpg\n10.jpg", encoding="utf-8")
    assert names(listed) == ["2.jpg", "sub/1.jpg", "missing.jpg", "10.jpg"]
    assert names([tmp_path / "sub", tmp_path / "raw", str(listed)])[:3] == ["sub/1.jpg", "raw", "2.jpg"]


@pytest.mark.parametrize("source", ["nothing", "*.jpg", "empty", "empty.txt", []])
def test_nothing_found_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.txt").touch()
    with pytest.raises(DataError) as caught:
        find_images(source)
    assert str(caught.value).endswith(".")


def test_names_that_are_no_utf8_become_escapes() -> None:
    assert path_id(os.fsdecode(b"caf\xe9\n.jpg")) == "caf\\xe9\\n.jpg"
    assert path_id("caf\u00e9.jpg") == "caf\u00e9.jpg"
