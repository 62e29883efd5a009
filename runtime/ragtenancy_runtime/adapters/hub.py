"""The model hub, by its own client; its errors told apart."""

import errno
import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, get_cached_repo_tree, get_token, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ragtenancy_api.wiring import DownloadFailure
from ragtenancy_runtime.download.cache import wanted

_TIMEOUT_S: Final = 10.0
_BUGS: Final = (TypeError, AttributeError, NameError, AssertionError)


class DownloadError(Exception):
    """The model cannot be had as things are; says why."""

    def __init__(self, failure: DownloadFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class HubAway(Exception):
    """The hub does not answer as it should; likely to pass."""


@dataclass(frozen=True)
class Listing:
    """What a model consists of: a commit, and the sizes in bytes of its files that are wanted."""

    commit: str
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(self.sizes.values())


class Hub:
    """The hub's models. Every method raises DownloadError or HubAway when it cannot do its work."""

    def __init__(self, home: Path) -> None:
        """Keep models below a directory: the HF_HOME of others."""
        self._cache = home / "hub"

    def listing(self, model: str) -> Listing:
        """What the hub has of a model now."""
        try:
            info = HfApi().model_info(model, files_metadata=True, timeout=_TIMEOUT_S)
            sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
            if info.sha is None:
                raise HubAway("the hub answered without a commit")  # noqa: TRY301
        except _BUGS:
            raise
        except Exception as error:
            raise _explained(error, model) from error
        return Listing(info.sha, {name: sizes[name] for name in wanted(sizes)})

    def known(self, model: str) -> Listing | None:
        """What the hub had of a model when its download was begun here; None when it was not."""
        try:
            files = get_cached_repo_tree(model, cache_dir=self._cache)
            commit = (self._cache / f"models--{model.replace('/', '--')}/refs/main").read_text()
        except (CachedRepoTreeNotFoundError, HFValidationError, OSError):
            return None
        sizes = {file.path: file.size for file in files}
        return Listing(commit.strip(), {name: sizes[name] for name in wanted(sizes)})

    def fetch(self, model: str, listing: Listing) -> None:
        """Download what is not here yet."""
        names = [glob.escape(name) for name in listing.sizes]
        try:
            snapshot_download(model, cache_dir=self._cache, allow_patterns=names)
        except _BUGS:
            raise
        except Exception as error:
            raise _explained(error, model) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained(error: Exception, model: str) -> Exception:
    """What an error of the client means for who declared the model."""
    for cause in _causes(error):
        if isinstance(cause, HubAway):
            return cause
        failure = _failure(cause, model)
        if failure is not None:
            return DownloadError(failure)
        if isinstance(cause, HfHubHTTPError):
            status = cause.response.status_code
            return HubAway(f"the hub answered with status {status}")
    return HubAway(f"{type(error).__name__}: {error}")


def _failure(error: BaseException, model: str) -> DownloadFailure | None:
    """What a person must mend; None when it may pass."""
    if isinstance(error, GatedRepoError):
        return _token(f"{model} is gated")
    if absent := _absent(error, model):
        return DownloadFailure(reason="ModelNotFound", message=absent)
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return _token(f"the hub refused {model} with status {error.response.status_code}")
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadFailure(
            reason="Unreachable",
            message=f"{model} is not in the model cache, and HF_HUB_OFFLINE forbids to ask the hub",
        )
    return _storage(error)


def _absent(error: BaseException, model: str) -> str:
    """In which way the hub does not have the model; empty for another error."""
    if isinstance(error, DisabledRepoError):
        return f"the hub has disabled {model}"
    if isinstance(error, RepositoryNotFoundError):
        token = "the token may not read it" if get_token() else "needs a token (tokenSecretRef)"
        return f"the hub has no model {model}, or it is private and {token}"
    if isinstance(error, RevisionNotFoundError | RemoteEntryNotFoundError):
        return f"{model} has no files on the hub's branch main"
    if isinstance(error, HFValidationError):
        return f"{model} is no name of a model on the hub: {error}"
    return ""


def _storage(error: BaseException) -> DownloadFailure | None:
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
        return DownloadFailure(
            reason="DiskFull",
            message="the model cache's volume is full: let "
            "modelCache.persistentVolumeClaim.size grow",
        )
    # a network policy, too, may refuse with EPERM; only a file has a name
    if code in (errno.EROFS, errno.EACCES, errno.EPERM) and getattr(error, "filename", None):
        return DownloadFailure(
            reason="CacheReadOnly",
            message="the model is not whole in the model cache, and the cache cannot be written: "
            "fill it before, or give it a volume that the pods may write to",
        )
    return None


def _token(what: str) -> DownloadFailure:
    token = (
        "the token was not accepted for it: renew it, or let its account accept the model's terms"
        if get_token()
        else "no token was given: put one into a Secret and name it in tokenSecretRef"
    )
    return DownloadFailure(reason="TokenMissing", message=f"{what}, and {token}")
