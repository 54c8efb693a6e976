"""SOURCE strings, and several of them joined."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.sources.open import join_streams, open_images, open_source, open_stream
from adios_zoo.sources.source import Source
from tests.sources.small import number_of, numbers, png, write_parquet
from tests.sources.test_tar import shard
from tests.sources.test_zip import write_zip


def test_a_parquet_file_needs_no_prefix(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", range(5))
    for spec in (path, str(path), f"parquet:{path}", f"{tmp_path}/*.parquet", f"parquet:{tmp_path}"):
        assert numbers(open_source(spec)) == [0, 1, 2, 3, 4]


def test_a_mistyped_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean parquet:a"):
        open_source("parqet:a")
    with pytest.raises(DataError, match="no such file or folder"):
        open_source("what:ever")
    monkeypatch.chdir(tmp_path)
    Path("parqet:a").write_bytes(png(3))
    assert numbers(open_source("parqet:a")) == [3]


def test_joined_sources_follow_each_other(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "a.parquet", range(5), classes=("bee",))
    for number in (5, 6):
        (tmp_path / "bee").mkdir(exist_ok=True)
        (tmp_path / "bee" / f"{number}.png").write_bytes(png(number))
    both = join_streams([table, tmp_path])
    assert isinstance(both, Source)
    assert len(both) == 7
    assert numbers(both) == [number_of(both[i]) for i in range(7)] == list(range(7))
    assert numbers(both.iterate(3, 6)) == [3, 4, 5]
    assert (both.classes, {ref.label for ref in both}) == (("bee",), {0})

    other = join_streams([write_parquet(tmp_path / "b.parquet", range(2)), tmp_path])
    assert (other.classes, {ref.label for ref in other}) == ((), {-1})
    assert other.fingerprint() != both.fingerprint()


def test_paths_beside_each_other_are_one_part_and_missing_ones_are_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number in (0, 2):
        paths[number].write_bytes(png(number))
    refs = join_streams(paths)
    assert [ref.id for ref in refs] == [str(path) for path in paths]
    assert number_of(list(refs)[2]) == 2


def test_open_images_gives_the_source_itself(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", range(9))
    refs = open_images(f"parquet:{path}")
    assert isinstance(refs, Source)
    assert len(refs) == 9
    assert isinstance(open_images([str(path), tmp_path / "x.png"]), Source)
    assert numbers(open_images(iter([path, png_file(tmp_path)]))) == [*range(9), 77]


def test_images_in_memory_beside_sources(tmp_path: Path) -> None:
    pixels = Image.new("RGB", (4, 4), (50, 0, 7))
    table = write_parquet(tmp_path / "a.parquet", range(3))
    refs = open_images([pixels, table, str(table), pixels, pixels])
    assert isinstance(refs, Source)
    assert numbers(refs) == [50, 0, 1, 2, 0, 1, 2, 50, 50]
    assert [refs[i].id for i in (0, 1, 7)] == ["#0", f"{table}[0]", "#3"]
    assert {ref.label for ref in refs} == {-1}


@pytest.mark.parametrize("nothing", [[], (), iter(())])
def test_no_images_are_an_error_or_an_empty_iterator(nothing: object) -> None:
    if isinstance(nothing, list | tuple):
        with pytest.raises(DataError, match="no images were given"):
            open_images(nothing)
    else:
        assert list(open_images(nothing)) == []


def png_file(folder: Path) -> str:
    (folder / "77.png").write_bytes(png(77))
    return str(folder / "77.png")


def test_every_kind_finds_folders_with_brackets(tmp_path: Path) -> None:
    folder = tmp_path / "trip [2023]"
    folder.mkdir()
    table, packed = write_parquet(folder / "t.parquet", range(3)), shard(folder / "s [1].tar", 0, 1, 2)
    zipped = write_zip(folder / "z.zip", [(f"{i}.png", png(i)) for i in range(3)])
    for kind, path in (("parquet", table), ("tar", packed), ("tar-stream", packed), ("zip", zipped)):
        for place in (folder, path, f"{folder}/*{path.suffix}"):
            assert numbers(open_stream(f"{kind}:{place}")) == [0, 1, 2]
        assert numbers(open_stream(path)) == [0, 1, 2]
