"""Model folders from the Hugging Face Hub, by way of its own cache."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from pathlib import Path

from adios_zoo.environment import offline
from adios_zoo.errors import CardError, ConfigError, DownloadError
from adios_zoo.models.card import CONFIG, ENCODER, MASKER, ONNX_FOLDER, README, card_of_folder
from adios_zoo.telling import tell
from adios_zoo.zoo.connection import connect_limit, limited

PREFIX = "hf-hub:"

_WANTED = [CONFIG, "*.safetensors", f"{ONNX_FOLDER}/*", README]


def snapshot(name: str) -> Path:
    """The local folder of a model on the Hub.

    A commit that is in the cache is not asked for; of a branch or tag the Hub is asked which commit it is now, and
    the cache serves if the Hub does not answer.  A token is found by huggingface_hub, as it always does.

    Args:
        name: ``org/repo``, or ``org/repo@revision`` with a branch, a tag or a commit.

    Raises:
        ConfigError: no name that the Hub can have.
        DownloadError: not in the cache and not to be had from the Hub, or without the files of a model.
    """
    repo, _, revision = name.partition("@")
    check_name(repo)
    is_commit = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    variable = offline()
    found = _cached(repo, revision) if is_commit or variable else None
    if found and (variable or _whole(found)):
        return found
    if variable:
        raise DownloadError(
            f"{name} is not in the Hub's cache, and {variable} forbids fetching it; without it {_by_hand(repo)}."
        )
    return _asked(repo, revision)


def hub_file(name: str, file: str) -> Path:
    """One file of a repository on the Hub; what is in the cache is not asked for.

    Args:
        name: ``org/repo``, or ``org/repo@revision``.
        file: its path in the repository.

    Raises:
        ConfigError: no name that the Hub can have.
        DownloadError: not in the cache and not to be had from the Hub.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RevisionNotFoundError

    repo, _, revision = name.partition("@")
    check_name(repo)
    with suppress(OSError):  # huggingface_hub's error for what is not in the cache is one
        return Path(hf_hub_download(repo, file, revision=revision or None, local_files_only=True))
    if variable := offline():
        raise DownloadError(f"{file} of {name} is not in the Hub's cache, and {variable} forbids fetching it.")
    limit = connect_limit()
    try:
        limited(lambda: HfApi().model_info(repo, revision=revision or None, timeout=limit), limit)
        return Path(hf_hub_download(repo, file, revision=revision or None, etag_timeout=limit))
    except RevisionNotFoundError as error:
        raise DownloadError(_no_revision(repo, revision)) from error
    except Exception as error:  # what a missing network raises depends on huggingface_hub's version
        raise DownloadError(f"{_why(repo, error, with_remedy=False).rstrip('.')}.") from error


def check_name(repo: str) -> None:
    """Refuse what the Hub takes for no name of a repository.

    Raises:
        ConfigError: says what a name is.
    """
    part = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
    if not re.fullmatch(f"{part}/{part}", repo, re.ASCII) or re.search(r"--|\.\.|\.git$", repo) or len(repo) > 96:
        raise ConfigError(
            f"{repo!r} cannot be a repository on the Hub: it takes ORG/NAME, of letters, digits and single _ - . in "
            "between."
        )


def _cached(repo: str, revision: str) -> Path | None:
    """The folder in the Hub's cache, if a model's files are all there; asks no one."""
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(repo, revision=revision or None, allow_patterns=_WANTED, local_files_only=True)
    except OSError:  # huggingface_hub's error for what is not in the cache is one
        return None
    return None if _missing(Path(found)) else Path(found)


def _missing(folder: Path) -> list[str]:
    """The files that are not there and that the model cannot do without."""
    needed = [CONFIG, ENCODER, MASKER]
    try:
        if card_of_folder(folder).masker is None:
            needed.remove(MASKER)
    except CardError:  # is told when the model is loaded
        pass
    return [file for file in needed if not (folder / file).is_file()]


def _whole(folder: Path) -> bool:
    """Whether all files that the folder's card names are there, those too that a model can do without."""
    try:
        return all((folder / file).is_file() for file in card_of_folder(folder).files)
    except CardError:
        return False


def _asked(repo: str, revision: str) -> Path:
    """The folder, brought up to date by the Hub if that answers."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    limit = connect_limit()
    try:
        # snapshot_download alone would try for some twenty seconds before it says that there is no network.
        info = limited(lambda: HfApi().model_info(repo, revision=revision or None, timeout=limit), limit)
        commit = info.sha or revision
        cached = _cached(repo, commit)
        if cached and _whole(cached):
            found = cached
        else:
            found = Path(snapshot_download(repo, revision=commit or None, allow_patterns=_WANTED, etag_timeout=limit))
        _remember(found, revision or "main", commit)
    except RevisionNotFoundError as error:
        raise DownloadError(_no_revision(repo, revision)) from error
    except Exception as error:  # what a missing network raises depends on huggingface_hub's version
        cached = _cached(repo, revision)
        if cached is None:
            raise DownloadError(_why(repo, error)) from error
        tell(f"adios: {_why(repo, error, with_remedy=False)}; its copy in the cache serves")
        return cached
    if missing := _missing(found):
        raise DownloadError(f"{repo} on the Hub has no {missing[0]}: it holds no model that adios-zoo saved.")
    return found


def _remember(folder: Path, revision: str, commit: str) -> None:
    """Note in the Hub's cache which commit a branch or tag is: a download by commit does not, and without a network
    the name would not be found."""
    refs = folder.parents[1] / "refs"
    path = refs / revision
    if revision == commit or folder.name != commit or not path.resolve().is_relative_to(refs.resolve()):
        return
    with suppress(OSError):  # the cache may be read-only
        if path.is_file() and path.read_text() == commit:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        new.write_text(commit)
        new.replace(path)


def _timed_out(error: BaseException | None) -> bool:
    while error is not None:
        # Libraries that huggingface_hub builds on have a class of their own for it.
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


def _why(repo: str, error: Exception, *, with_remedy: bool = True) -> str:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        why = f"{repo} is gated: ask for access on its page, and log in by `hf auth login`"
    elif isinstance(error, RepositoryNotFoundError):
        why = f"The Hub has no {repo}, or it is private: check the name, or log in by `hf auth login`"
    elif isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "no status")
        why = f"The Hub answers {status} for {repo}"
    else:
        if _timed_out(error):
            reason = f"no answer within {connect_limit():g} s; ADIOS_TIMEOUT gives it more"
        else:
            reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        why = f"The Hub cannot be asked for {repo} ({reason.rstrip('.')})"
        return f"{why}; without it {_by_hand(repo)}." if with_remedy else why
    return f"{why}." if with_remedy else why


def _no_revision(repo: str, revision: str) -> str:
    return f"{repo} on the Hub has no branch, tag or commit {revision!r}."


def _by_hand(repo: str) -> str:
    return f"download the repository's files elsewhere (`hf download {repo}`) and give their folder"
