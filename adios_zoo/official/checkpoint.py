"""The tensors of a released checkpoint, read so that no code in it can run.

A checkpoint is a zip archive of raw tensors and one pickle.  ``torch.load(weights_only=True)`` interprets the pickle
without importing anything; before that, the names that the pickle asks for are listed and compared with the few that
tensors need.  Callbacks of the trainer are pickled by class: those names stand for an empty class of ours.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from adios_zoo.errors import IntegrityError
from adios_zoo.official.archive import check_directory, shown

MAX_RECORDS = 20_000  # tensors of a checkpoint, optimiser included
MAX_DIRECTORY = 8 << 20  # bytes of its list of records
MAX_TUPLE = 1 << 20  # values in one tuple and those within it
MAX_PICKLE = 8 << 20  # bytes; the published ones have about 100 KiB

_STORAGES = "Float Double Half BFloat16 Long Int Short Char Byte Bool"
_NEEDED = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    *(f"torch.{kind}Storage" for kind in _STORAGES.split()),
}
# Modules of the trainer and of the authors' code, whose classes a checkpoint may name.
_INERT = re.compile(r"(pytorch_lightning|src)(\.[A-Za-z_]\w*)+")
_IMPORTING = {"INST", "OBJ", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
_allow_list = threading.Lock()


class _Nothing:
    """Stands for a class that is not imported: takes any arguments and any state, and keeps none."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> _Nothing:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_state_dict(path: Path, *, what: str) -> dict[str, Tensor]:
    """The tensors of the checkpoint's ``state_dict``, on the CPU, by name; mapped from the file, not copied.

    Args:
        path: of a ``.ckpt`` in PyTorch's zip format.
        what: names the release in messages.

    Raises:
        IntegrityError: the file is no such checkpoint, is damaged, or holds anything but tensors and plain data.
    """
    inert = _stand_ins(_names_asked_for(path, what), what)
    checkpoint = _load(path, inert, what)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not state:
        raise IntegrityError(f"{what}: the checkpoint has no state_dict.")
    for name, tensor in state.items():
        if not isinstance(name, str) or not _plain(tensor):
            raise IntegrityError(f"{what}: {shown(name)} in the checkpoint's state_dict is not a whole plain tensor.")
    return dict(state)


def _names_asked_for(path: Path, what: str) -> set[str]:
    """What the pickle would import, found without interpreting it."""
    check_directory(path, MAX_DIRECTORY)
    bad = f"{what}: the checkpoint is not a whole file of PyTorch's zip format"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            # Records are stored as they are: one that is packed, or larger than the file, is there to fill memory.
            stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members)
            if not stored or len(members) > MAX_RECORDS or sum(m.file_size for m in members) > path.stat().st_size:
                raise IntegrityError(f"{bad}: its records are packed, too many or too large.")
            pickles = [m for m in members if m.filename.endswith("data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
                raise IntegrityError(f"{bad}: it needs one data.pkl of at most {MAX_PICKLE} bytes.")
            data = archive.read(pickles[0])
            if damaged := archive.testzip():  # torch does not compare checksums
                raise IntegrityError(f"{bad}: the record {shown(damaged)} is damaged.")
        return _names_in_pickle(data, what)
    except IntegrityError:
        raise
    except Exception as error:  # zipfile and pickletools raise nearly anything on bytes that are made up
        raise IntegrityError(f"{bad}: {_first_line(error)}.") from error


def _names_in_pickle(data: bytes, what: str) -> set[str]:
    """The names; beside them the size of tuples is followed, for one that holds itself twice, many levels deep, takes
    for ever to hash."""
    names: set[str] = set()
    sizes: list[int] = []  # of the values on the pickle's stack; -1 is a mark
    memo: dict[int, int] = {}
    for code, argument, _ in pickletools.genops(data):
        if code.name in _IMPORTING:
            raise IntegrityError(f"{what}: the checkpoint's pickle uses {code.name}, which tensors do not need.")
        if code.name == "GLOBAL":
            names.add(str(argument).replace(" ", "."))
        taken, size = code.stack_before, 0
        if pickletools.markobject in taken:
            while (inner := sizes.pop()) >= 0:
                size += inner
            taken = taken[: taken.index(pickletools.markobject)]
        size += sum(sizes.pop() for _ in taken)
        if not code.name.startswith("TUPLE"):
            size = memo[cast("int", argument)] if "GET" in code.name else 0
        if size > MAX_TUPLE:
            raise IntegrityError(f"{what}: the checkpoint's pickle nests tuples without end, which tensors do not.")
        sizes.extend(-1 if made is pickletools.markobject else size + 1 for made in code.stack_after)
        if "PUT" in code.name:
            memo[cast("int", argument)] = sizes[-1] - 1
    return names


def _stand_ins(names: set[str], what: str) -> list[Any]:
    """An empty class for each name of the trainer's; any other name that tensors do not need is refused."""
    strange = sorted(name for name in names - _NEEDED if not _INERT.fullmatch(name))
    if strange:
        raise IntegrityError(
            f"{what}: the checkpoint is not read, because it would run code or holds objects other than tensors: it "
            f"asks for {', '.join(map(shown, strange[:3]))}."
        )
    found = []
    for name in names - _NEEDED:
        module, _, last = name.rpartition(".")
        found.append(type(last, (_Nothing,), {"__slots__": (), "__module__": module, "__qualname__": last}))
    return found


def _load(path: Path, inert: list[Any], what: str) -> Any:
    with _allow_list, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # What others allow in this process is not allowed here.
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(inert)
        try:
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise IntegrityError(
                f"{what}: the checkpoint is not read, because it is damaged or holds objects other than tensors."
            ) from error
        except Exception as error:  # a made-up pickle can make torch raise nearly anything
            raise IntegrityError(f"{what}: the checkpoint cannot be read: {_first_line(error)}.") from error
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _plain(tensor: object) -> bool:
    """Whether this is a dense tensor whose every element lies in the file, so that a copy is no larger than it."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return shown(text.splitlines()[0])[1:-1] if text else type(error).__name__
