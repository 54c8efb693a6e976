"""A model folder to the Hugging Face Hub, in one commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adios_zoo.environment import offline
from adios_zoo.errors import DownloadError
from adios_zoo.models.card import CONFIG, README
from adios_zoo.zoo.snapshot import check_name

_FOLDER_NAME = "local-dir:THIS_FOLDER"  # in the README of a folder that does not know where it lies


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        repo: ``org/name``.
        files: name in the repository -> bytes.
        address: of the commit; ``None`` of a dry run.
    """

    repo: str
    files: dict[str, int]
    address: str | None


def publish(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    message: str = "Upload an ADIOS model",
) -> Publication:
    """Put a model folder on the Hub: its card, README and the files that the card names, in one commit.

    The repository is made if it is not there.  The token is the one that huggingface_hub finds (``hf auth login`` or
    ``HF_TOKEN``).

    Args:
        folder: a model folder; it must load.
        repo: ``org/name``.
        private: of a repository that is made now.
        revision: the branch that takes the commit, made if absent; default: the main one.
        dry_run: only say what would go.
        message: of the commit.

    Raises:
        CardError, IntegrityError: the folder does not load.
        ConfigError: no name that the Hub can have.
        DownloadError: the Hub cannot be reached or refuses.
    """
    from adios_zoo.zoo.load import load_model

    check_name(repo)
    card = load_model(f"local-dir:{folder}").card
    # Files that the card does not name may be of weights that the folder had before.
    files = {name: folder / name for name in (CONFIG, README, *card.files) if (folder / name).is_file()}
    contents: dict[str, Path | bytes] = dict(files)
    if README in files:
        text = files[README].read_text(encoding="utf-8")
        contents[README] = text.replace(_FOLDER_NAME, f"hf-hub:{repo}").encode()
    sizes = {name: len(c) if isinstance(c, bytes) else c.stat().st_size for name, c in contents.items()}
    if dry_run:
        return Publication(repo, sizes, None)
    if variable := offline():
        raise DownloadError(f"{variable} forbids the network; unset it to publish {repo}.")
    return Publication(repo, sizes, _commit(contents, repo, private, revision, message))


def _commit(contents: dict[str, Path | bytes], repo: str, private: bool, revision: str | None, message: str) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    # upload_folder may cut a folder into several commits, and whoever loads in between gets halves.
    operations: list[Any] = [CommitOperationAdd(path_in_repo=n, path_or_fileobj=c) for n, c in contents.items()]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=message, revision=revision)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise DownloadError(
                f"The Hub refuses to let you write to {repo} ({status}): log in by `hf auth login`, or set HF_TOKEN, "
                "with a token that may write there."
            ) from error
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise DownloadError(f"The Hub does not take {repo}: {reason}.") from error
    except Exception as error:  # what a missing network raises depends on huggingface_hub's version
        reason = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
        raise DownloadError(f"{repo} could not be published: {reason}.") from error
    return str(commit.commit_url)
