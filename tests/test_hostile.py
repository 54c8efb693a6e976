"""Files made to do harm: every one is refused in one line, runs nothing, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adios_zoo.cli import main
from adios_zoo.errors import AdiosError, CardError, IntegrityError
from adios_zoo.models.card import parse_card
from adios_zoo.official.archive import open_release
from adios_zoo.official.card import card_of_args
from adios_zoo.official.checkpoint import read_state_dict
from adios_zoo.zoo.load import load_model
from tests.releases import checkpoint_of, small_args, with_foreign_class, write_run, zipped
from tests.small_models import saved_model, small_card

TINY: dict[str, Tensor] = {f"encoder.{i}.weight": torch.full((3, 4), float(i)) for i in range(3)}


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


class Custom:
    def __setstate__(self, _: object) -> None:
        raise AssertionError("a foreign class was used")


def saved(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def with_pickle(data: bytes, **records: bytes) -> bytes:
    """A checkpoint in PyTorch's format whose pickle is ``data``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        all_records = {"data.pkl": data, "byteorder": b"little", "version": b"3\n", "data/0": bytes(48), **records}
        for name, content in all_records.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def tensor_pickle(
    shape: bytes, *, numel: bytes = b"K\x0c", offset: bytes = b"K\0", strides: bytes = b"(K\4K\1t"
) -> bytes:
    """{"state_dict": {"encoder.w": a tensor of this shape over 12 numbers}}, by hand."""
    storage = b"((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpu" + numel + b"tQ"
    rest = offset + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + rest
    return b"\x80\2}X\n\0\0\0state_dict}X\t\0\0\0encoder.w" + tensor + b"ss."


def endless_tuple() -> bytes:
    """A dictionary whose key is a tuple that holds itself twice, 60 levels deep."""
    return b"\x80\2})q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"Ns."


def callbacks(thing: object) -> bytes:
    return saved(checkpoint_of(TINY, extra={"callbacks": thing}))


def checkpoints(sentinel: Path) -> dict[str, bytes]:
    touch = f"touch {sentinel}"
    calls = {
        "os.system": Calls(os.system, touch),
        "eval": Calls(eval, f"open({str(sentinel)!r}, 'w')"),
        "exec": Calls(exec, f"open({str(sentinel)!r}, 'w')"),
        "open": Calls(open, str(sentinel), "w"),
        "__import__": Calls(__import__, "os"),
        "torch.load": Calls(torch.load, str(sentinel)),
        "bytearray of 100 GB": Calls(bytearray, 100 << 30),
        "a class": Custom(),
        "a numpy array": np.ones(3),
        "a path": Path("x"),
    }
    made = {f"a callback: {name}": callbacks(call) for name, call in calls.items()}
    made |= {f"a tensor: {name}": saved({"state_dict": {"encoder.w": call}}) for name, call in calls.items()}
    made |= {f"the whole: {name}": saved(call) for name, call in calls.items()}

    def in_disguise(kind: type) -> None:
        # The trainer's name in front of a function that is not there to be called.
        made["a function under the trainer's name"] = callbacks(kind)

    with_foreign_class("pytorch_lightning_evil.callbacks", "system", in_disguise)
    with_foreign_class("srcs.utils", "system", in_disguise)
    proto4 = pickle.dumps({"state_dict": Calls(os.system, touch)}, protocol=4)
    made |= {
        "a plain pickle": pickle.dumps(Calls(os.system, touch)),
        "a plain pickle, protocol 0": pickle.dumps(Calls(os.system, touch), protocol=0),
        "protocol 4": with_pickle(proto4),
        "posix": with_pickle(b"\x80\2cposix\nsystem\nX" + struct.pack("<L", len(touch)) + touch.encode() + b"\x85R."),
        "INST": with_pickle(b"(S'" + touch.encode() + b"'\nios\nsystem\n."),
        "the trainer's os": with_pickle(b"\x80\2cpytorch_lightning.os\nsystem;\n."),
        "a name of two lines": with_pickle(b"\x80\2csrc.a\nb c\n."),
        "old format": saved_old(),
        "TorchScript": scripted(),
        "no state_dict": saved({"weights": TINY}),
        "an empty state_dict": saved({"state_dict": {}}),
        "a list": saved([TINY]),
        "keys that are numbers": saved({"state_dict": {1: torch.ones(1)}}),
        "values that are texts": saved({"state_dict": {"encoder.w": "x"}}),
        "a sparse tensor": saved({"state_dict": {"encoder.w": torch.eye(3).to_sparse()}}),
        "a meta tensor": saved({"state_dict": {"encoder.w": torch.empty(1 << 40, device="meta")}}),
        "an expanded tensor": saved({"state_dict": {"encoder.w": torch.ones(1).expand(1 << 40)}}),
        "a shape beyond the storage": with_pickle(tensor_pickle(b"(J\0\0\0\x40K\4t")),
        "a storage beyond the record": with_pickle(tensor_pickle(b"(J\0\0\0\x10K\4t", numel=b"J\0\0\0\x40")),
        "a negative storage": with_pickle(tensor_pickle(b"(K\3K\4t", numel=b"J\xff\xff\xff\xff")),
        "a negative shape": with_pickle(tensor_pickle(b"(J\xff\xff\xff\xffK\4t")),
        "a negative offset": with_pickle(tensor_pickle(b"(K\3K\4t", offset=b"J\0\xff\xff\xff")),
        "negative strides": with_pickle(tensor_pickle(b"(K\3K\4t", strides=b"(J\xfc\xff\xff\xffK\1t")),
        "an offset beyond": with_pickle(tensor_pickle(b"(K\3K\4t", offset=b"J\0\0\0\x40")),
        "a tuple without end": with_pickle(endless_tuple()),
        "a deep list": with_pickle(b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        "packed records": packed(),
        "two pickles": with_pickle(tensor_pickle(b"(K\3K\4t"), **{"inner/data.pkl": b"\x80\2N."}),
        "nothing": b"",
        "zeros": bytes(1000),
        "half": saved(checkpoint_of(TINY))[:-500],
        "damaged": saved(checkpoint_of(TINY)).replace(struct.pack("<f", 2.0) * 4, struct.pack("<f", 3.0) * 4),
    }
    return made


def saved_old() -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint_of(TINY), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    return buffer.getvalue()


def packed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor_pickle(b"(K\3K\4t"))
        file.writestr("archive/data/0", bytes(20 << 20))
    return buffer.getvalue()


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], *, words: str = "") -> None:
    capsys.readouterr()
    assert main(arguments) == 1, arguments
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("adios: ")
    assert shown.err.count("\n") == 1
    assert shown.err.rstrip("\n").isprintable()
    assert len(shown.err) < 1500
    assert words in shown.err


def names_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.filterwarnings("ignore")
def test_hostile_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentinel = tmp_path / "executed"
    made = checkpoints(sentinel)
    assert len(made) > 60
    for i, (name, data) in enumerate(made.items()):
        run = write_run(tmp_path / f"r{i}", small_args(), data)
        before = names_below(tmp_path)
        refused(["convert", str(run), "-o", str(tmp_path / "out" / "m")], capsys)
        with pytest.raises(IntegrityError), open_release(run) as release:
            read_state_dict(release.checkpoint, what="it")
        assert names_below(tmp_path) == before, name
    assert not sentinel.exists()


def test_the_hand_made_checkpoint_is_sound_without_its_flaw(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(with_pickle(tensor_pickle(b"(K\3K\4t")))
    assert torch.equal(read_state_dict(path, what="it")["encoder.w"], torch.zeros(3, 4))


def test_what_others_allow_is_not_allowed_here(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", small_args(), callbacks(Custom()))
    torch.serialization.add_safe_globals([Custom])
    try:
        with pytest.raises(IntegrityError, match=r"would run code .* it asks for 'tests.test_hostile.Custom'"):
            read_state_dict(next(run.glob("*.ckpt")), what="it")
        assert Custom in torch.serialization.get_safe_globals()
    finally:
        torch.serialization.clear_safe_globals()


def test_a_called_stand_in_does_nothing(tmp_path: Path) -> None:
    call = b"csrc.utils.checkpointer\nCheckpointer\nX\4\0\0\0evil\x85R}b"
    data = b"\x80\2}(X\n\0\0\0state_dict}X\1\0\0\0c" + call + b"sX\1\0\0\0dNu."
    path = tmp_path / "x.ckpt"
    path.write_bytes(with_pickle(data))
    with pytest.raises(IntegrityError, match="'c' in the checkpoint's state_dict is not a whole plain tensor"):
        read_state_dict(path, what="it")


def test_hostile_archives_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = zipped(write_run(tmp_path / "r", small_args(), checkpoint_of(TINY)).parent, tmp_path / "good.zip")
    for i, name in enumerate(["../escape", "/tmp/escape", "..\\escape", "x/../../escape"]):
        path = tmp_path / f"{i}.zip"
        shutil.copy(good, path)
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(name, b"escaped")
        before = names_below(tmp_path)
        refused(["convert", str(path), "-o", str(tmp_path / "m")], capsys, words="points out of the archive")
        assert names_below(tmp_path) == before
    refused(["convert", str(good), "-o", str(tmp_path / "m")], capsys, words="it lacks conv1.weight")
    assert not (tmp_path / "m").exists()
    assert not Path("/tmp/escape").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "m")


def changed_card(folder: Path, change: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        target = config["adios"]
        *path, last = key.split(".")
        for part in path:
            target = target[part]
        target[last] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"name": 3},
        {"mean": [0.5, 0.5]},
        {"input_size": 10**9},
        {"input_size": -1},
        {"crop_pct": 10**400},
        {"crop_pct": 0},
        {"crop_pct": "1.0"},
        {"masker.slots": 10**9},
        {"masker.image_size": 4096, "masker.base_channels": 1024},
        {"masker.image_size": 33},
        {"masker.blocks": 10**6},
        {"masker.norm": []},
        {"masker.base_channels": 12},
        {"files": {"../outside": {"bytes": 1, "sha256": "0"}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}},
        {"files": {"model.safetensors": {"bytes": 10**30, "sha256": "0"}}},
        {"architecture": "resnet118"},
        {"architecture": "../../evil"},
        {"architecture": "local-dir:/tmp"},
        {"architecture": "vit_giant_patch14_224"},
        {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 10**9}},
        {"architecture": "vit_tiny_patch16_224", "model_args": {"embed_dim": 8190, "depth": 8190}},
        {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 8192, "patch_size": 1}},
        {"architecture": "vit_tiny_patch16_224", "model_args": {"num_heads": 7}},
        {"architecture": "vit_tiny_patch16_224", "model_args": {"patch_size": 0}},
        {"model_args": {"checkpoint_path": "evil.pth"}},
        {"model_args": {"pretrained_cfg": {"file": "evil.pth"}}},
        {"model_args": {"features_only": True}},
        {"model_args": {"device": "meta"}},
        {"model_args": {"wings": 2}},
        {"model_args": {"block": "os.system"}},
        {"model_args": {"layers": [[[[[[1]]]]]]}},
        {"model_args": {"layers": [0] * 1000}},
        {"model_args": []},
        {"aliases": [None]},
    ],
)
def test_hostile_cards(change: dict[str, Any], model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    changed_card(folder, {"files": {}} | change)
    with pytest.raises((CardError, IntegrityError)) as caught:
        load_model(folder)
    assert caught.value.exit_code == 1
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"adios": 1}', "[" * 100_000, '{"adios": {"a": NaN}}', "\udcff"]
)
def test_cards_that_are_none(text: str, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CardError):
        load_model(folder)


def rewritten(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A safetensors file with another header."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: b"",
        lambda d: d[:7],
        lambda d: d[:100],
        lambda d: d[:-1],
        lambda d: d + b"x",
        lambda d: struct.pack("<Q", 1 << 62) + d[8:],
        lambda d: struct.pack("<Q", 0) + d[8:],
        lambda d: pickle.dumps(Calls(os.system, "false")),
        lambda d: saved(TINY),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(shape=[1 << 40, 3, 3, 3])),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(shape=[-1])),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(shape=h["conv1.0.weight"]["shape"][::-1])),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(dtype="I32")),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(dtype="object")),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(data_offsets=[0, 1 << 60])),
        lambda d: rewritten(d, lambda h: h["conv1.0.weight"].update(data_offsets=[8, 0])),
        lambda d: rewritten(d, lambda h: h.pop("conv1.0.weight")),
        lambda d: rewritten(d, lambda h: h.update({"../x": h.pop("conv1.0.weight")})),
    ],
)
def test_hostile_safetensors(change: Callable[[bytes], bytes], model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    changed_card(folder, {"files": {}})
    path = folder / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(IntegrityError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_hostile_folders_on_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(model, tmp_path / "m")
    (tmp_path / "x.png").write_bytes(b"")
    changed_card(folder, {"model_args": {"checkpoint_path": "evil.pth"}})
    command = ["masks", str(tmp_path / "x.png"), "-o", str(tmp_path / "out"), "--model", str(folder)]
    refused(command, capsys, words="checkpoint_path is not an argument of an architecture")


# Random damage: success or one of our errors, never anything else.

QUIET = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def error_of(action: Callable[[], object]) -> AdiosError | None:
    try:
        action()
    except AdiosError as error:
        return error
    return None


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    flips = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8))
    cut = draw(st.none() | st.floats(0, 1))

    def apply(data: bytes) -> bytes:
        made = bytearray(data)
        for place, value in flips:
            made[int(place * len(made))] = value
        return bytes(made if cut is None else made[: int(cut * len(made))])

    return apply


@pytest.fixture(scope="module")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """A zip archive, the checkpoint in it, and that one's records."""
    folder = tmp_path_factory.mktemp("release")
    run = write_run(folder / "a", small_args(), checkpoint_of(TINY))
    checkpoint = next(run.glob("*.ckpt")).read_bytes()
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as file:
        records = [(info.filename, file.read(info)) for info in file.infolist()]
    archive = zipped(folder / "a", folder / "a.zip", compression=zipfile.ZIP_DEFLATED).read_bytes()
    return archive, checkpoint, records


@QUIET
@given(damage())
def test_random_damage_to_archives(
    tiny_release: tuple[bytes, bytes, list[tuple[str, bytes]]], tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "r.zip"
    path.write_bytes(change(tiny_release[0]))

    def read() -> None:
        with open_release(path) as release:
            found = read_state_dict(release.checkpoint, what="it")
            assert all(torch.equal(found[name], tensor) for name, tensor in TINY.items())

    assert str(error_of(read)).isprintable()
    assert os.listdir(tmp_path) == ["r.zip"]  # noqa: PTH208


@QUIET
@given(damage(), damage())
def test_random_damage_to_checkpoints(
    tiny_release: tuple[bytes, bytes, list[tuple[str, bytes]]],
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    change_pickle: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "x.ckpt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # with right checksums
        for name, data in tiny_release[2]:
            file.writestr(name, change_pickle(data) if name.endswith("data.pkl") else data)
    for data in (change(tiny_release[1]), buffer.getvalue()):
        path.write_bytes(data)
        error = error_of(lambda: [t.clone() for t in read_state_dict(path, what="it").values()])
        assert str(error).isprintable()


@QUIET
@given(damage(), damage())
def test_random_damage_to_model_folders(
    model: Path, tmp_path: Path, change: Callable[[bytes], bytes], change_header: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "m"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    changed_card(folder, {"files": {}})
    masker = folder / "masker.safetensors"
    data = masker.read_bytes()
    length = 8 + struct.unpack("<Q", data[:8])[0]
    masker.write_bytes(change_header(data[:length]) + data[length:])
    assert "\n" not in str(error_of(lambda: load_model(folder)))
    config = folder / "config.json"
    config.write_bytes(change(config.read_bytes()))
    error = error_of(lambda: load_model(folder))
    assert error is None or error.exit_code == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.integers(-(10**400), 10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)


@QUIET
@given(st.data())
def test_random_cards_and_settings(data: st.DataObject) -> None:
    card = json.loads(json.dumps(small_card().to_dict()))
    key = data.draw(st.sampled_from([*card, "other"]))
    value = data.draw(JSON)
    error = error_of(lambda: parse_card(card | {key: value}, what="it"))
    assert error is None or error.exit_code == 1
    args = small_args()
    key = data.draw(
        st.sampled_from(["encoder", "method", "dataset", "img_size", "N", "mask_fbase", "unet_norm", *args])
    )
    error = error_of(lambda: json.dumps(card_of_args(args | {key: value}, "it").to_dict(), allow_nan=False))
    assert error is None or error.exit_code == 1
    assert "\n" not in str(error)
