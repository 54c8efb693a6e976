"""The files of ONNX Runtime for browsers: from a folder or archive that the user names, or npm's package.

They are too large for this package.  ``python -m adios_zoo.export.web_runtime`` fetches them ahead of time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adios_zoo.environment import offline
from adios_zoo.errors import BackendError, ConfigError, IntegrityError
from adios_zoo.zoo.cache import downloads_folder, writable

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # as npm states it

# The build for processors alone: one WebAssembly file that runs with one thread or several.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

_NPM_SECONDS = 600


@dataclass(frozen=True)
class WebRuntime:
    """ONNX Runtime for browsers: its version, and its files' content by name."""

    version: str
    files: dict[str, bytes]


def web_runtime(source: Path | None = None) -> WebRuntime:
    """The runtime's files.

    Args:
        source: an unpacked ``onnxruntime-web``, its ``dist`` folder, or its ``.tgz``, of any version; ``None`` takes
            the version that this package was tested with, from the cache or by npm.

    Raises:
        BackendError: it is not in the cache and npm cannot give it; says what to do.
        ConfigError: ``source`` does not hold it.
        IntegrityError: what npm gave is not the package that its registry published.
        DataError: the cache cannot be written to.
    """
    if source is None:
        return _of_archive(cached() or fetched())
    if source.is_dir():
        return _of_folder(source)
    return _of_archive(source)


def cached() -> Path | None:
    """The package in the cache, if it is there and whole."""
    path = _place()
    return path if path.is_file() and _digest(path) == SHA512 else None


def fetched() -> Path:
    """Have npm fetch the package into the cache.

    Raises:
        BackendError: npm is missing, fails, or must not use the network.
        IntegrityError: the package is not the one that was published.
        DataError: the cache cannot be written to.
    """
    name = f"{PACKAGE}@{VERSION}"
    by_hand = f"fetch it elsewhere (`npm pack {name}`) and name the file with --runtime"
    if variable := offline():
        raise BackendError(f"The page needs {name}, and {variable} forbids fetching it; {by_hand}.")
    npm = shutil.which("npm")
    if npm is None:
        raise BackendError(f"The page needs {name}, and there is no npm to fetch it; install that, or {by_hand}.")
    place = _place()
    with writable(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{PACKAGE}.") as folder:
            archive = _packed(npm, name, Path(folder), by_hand)
            if _digest(archive) != SHA512:
                raise IntegrityError(f"What npm gave is not the {name} that its registry published; {by_hand}.")
            archive.replace(place)
    return place


def _packed(npm: str, name: str, folder: Path, by_hand: str) -> Path:
    command = [npm, "pack", name, "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"npm gave no {name} within {_NPM_SECONDS} s; {by_hand}.") from error
    found = list(folder.glob("*.tgz"))
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise BackendError(f"npm cannot fetch {name} ({lines[0].strip().rstrip('.')}); {by_hand}.")
    return found[0]


def _place() -> Path:
    return downloads_folder() / f"{PACKAGE}-{VERSION}.tgz"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha512()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()


def _of_archive(path: Path) -> WebRuntime:
    files = {}
    try:
        with tarfile.open(path) as archive:
            for name in ("package.json", *(f"dist/{file}" for file in FILES)):
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise KeyError(name)
                files[Path(name).name] = member.read()
    except (OSError, KeyError, EOFError, tarfile.TarError) as error:
        raise _not_it(path) from error
    return _runtime(path, files)


def _of_folder(folder: Path) -> WebRuntime:
    dist = folder if (folder / FILES[0]).is_file() else folder / "dist"
    try:
        files = {path.name: path.read_bytes() for path in (dist.parent / "package.json", *(dist / f for f in FILES))}
    except OSError as error:
        raise _not_it(folder) from error
    return _runtime(folder, files)


def _runtime(source: Path, files: dict[str, bytes]) -> WebRuntime:
    try:
        facts = json.loads(files.pop("package.json"))
        if facts["name"] != PACKAGE:
            raise _not_it(source)
        return WebRuntime(str(facts["version"]), files)
    except (ValueError, LookupError, TypeError) as error:
        raise _not_it(source) from error


def _not_it(source: Path) -> ConfigError:
    return ConfigError(
        f"{source} holds no {PACKAGE}: give its .tgz or what that unpacks to, with package.json and {', '.join(FILES)} "
        "in dist/."
    )


if __name__ == "__main__":
    print(cached() or fetched())
