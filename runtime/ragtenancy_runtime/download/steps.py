"""One model's download, from the first look into the cache to the last byte."""

import logging
import shutil
import time
from pathlib import Path
from typing import Final

from ragtenancy_api.wiring import DownloadFailure, DownloadProgress, amount
from ragtenancy_runtime.adapters.hub import DownloadError, Hub, HubAway, Listing
from ragtenancy_runtime.download.cache import ModelFolder

_log = logging.getLogger(__name__)
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0


class Download:
    """A model on its way into a cache. `run` does the work; another thread may ask for `progress`.

    Attributes:
        folder: Where the model lies.
    """

    def __init__(self, model: str, home: Path, patience_s: float) -> None:
        """Give up when the hub is away for so long and nothing has come meanwhile."""
        self.folder = ModelFolder.of(home, model)
        self._model, self._home, self._patience_s = model, home, patience_s
        self._hub = Hub(home)
        self._listing: Listing | None = None
        self._trouble = ""

    def progress(self) -> DownloadProgress:
        """How far it is."""
        listing = self._listing
        if listing is None:
            return DownloadProgress(trouble=self._trouble)
        done = self.folder.arrived(listing.commit, listing.sizes)
        return DownloadProgress(done=done, total=listing.total, trouble=self._trouble)

    def run(self) -> None:
        """Have the whole model in the cache.

        Raises:
            DownloadError: It cannot be had.
        """
        if self.folder.marked_complete():
            _log.info("%s is in the cache already", self._model)
            return
        self.discard_unfinished()
        wait, deadline, before = _FIRST_WAIT_S, time.monotonic() + self._patience_s, 0
        while True:
            try:
                self._attempt()
            except (DownloadError, HubAway) as error:
                if self._others_filled_it():
                    _log.info("%s is in the cache; it was not asked for: %s", self._model, error)
                    return
                if isinstance(error, DownloadError):
                    raise
                now, done = time.monotonic(), self.progress().done
                if done > before:
                    wait, deadline, before = _FIRST_WAIT_S, now + self._patience_s, done
                if now + wait > deadline:
                    raise DownloadError(
                        DownloadFailure(
                            reason="Unreachable",
                            message=f"the model hub cannot be reached: {error}",
                        )
                    ) from error
                self._trouble = str(error)
                _log.warning("again in %.0f s: %s", wait, error)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                return

    def _attempt(self) -> None:
        listing = self._hub.listing(self._model)
        self._listing, self._trouble = listing, ""
        self._check_space(listing)
        self._hub.fetch(self._model, listing)
        # the client takes what the cache has when the hub goes away between two of its requests
        missing = self.folder.missing(listing.commit, listing.sizes)
        if missing:
            raise HubAway(f"{len(missing)} files did not come, such as {min(missing)}")
        self.folder.mark_complete(listing.commit, listing.sizes)
        _log.info("%s is complete: %s", self._model, amount(listing.total))

    def _check_space(self, listing: Listing) -> None:
        """Say at once what would be known after hours.

        Raises:
            DownloadError: The files do not fit on the volume.
        """
        missing = sum(self.folder.missing(listing.commit, listing.sizes).values())
        volume = shutil.disk_usage(self._home)
        if volume.total > 0 and volume.free < missing:
            raise DownloadError(
                DownloadFailure(
                    reason="DiskFull",
                    message=f"{amount(missing)} are to come and {amount(volume.free)} are free on "
                    "the model cache's volume: let modelCache.persistentVolumeClaim.size grow",
                )
            )

    def _others_filled_it(self) -> bool:
        """Whether the cache holds the whole model although no download ended here."""
        begun = self._hub.known(self._model)
        if begun is None:
            return self.folder.looks_complete()
        return not self.folder.missing(begun.commit, begun.sizes)

    def discard_unfinished(self) -> None:
        """Remove what a download that was cut off has left."""
        for path in self.folder.unfinished():
            path.unlink(missing_ok=True)
