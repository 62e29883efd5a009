"""`python -m ragtenancy_runtime.download MODEL`: downloads a model into HF_HOME, and ends.

It says how far it is on the internal port, and why it failed in its termination message. Exits
with 0 when the model is there, 1 when it cannot be had, 143 when it was told to stop.
"""

import argparse
import logging
import os
import queue
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NoReturn

from ragtenancy_api import logs, wiring
from ragtenancy_api.wiring import DownloadFailure
from ragtenancy_runtime.adapters.hub import DownloadError
from ragtenancy_runtime.download.steps import Download

_log = logging.getLogger("ragtenancy_runtime.download")
_TOLD_EVERY_S: Final = 10.0
_LONGEST_MESSAGE: Final = 1000
_LOGIN: Final = re.compile(r"(?<=//)[^/@\s]+@")
"""User and password in the URL of a proxy or hub."""
_DONE, _FAILED, _STOPPED = 0, 1, 128 + signal.SIGTERM


def _serve(download: Download, host: str, port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == wiring.DOWNLOAD_PATH
            body = download.progress().model_dump_json().encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: it is asked every few seconds."""

    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _run(download: Download, outcomes: "queue.SimpleQueue[int]", termination_log: Path) -> None:
    try:
        download.run()
    except DownloadError as error:
        _tell(error.failure, termination_log)
    except Exception as error:
        _log.exception("the download broke")
        message = f"{type(error).__name__}: {error}"
        _tell(DownloadFailure(reason="Failed", message=message), termination_log)
    else:
        outcomes.put(_DONE)
        return
    outcomes.put(_FAILED)


def _tell(failure: DownloadFailure, termination_log: Path) -> None:
    message = _LOGIN.sub("", failure.message)
    if token := os.environ.get("HF_TOKEN"):
        message = message.replace(token, "(token)")
    message = " ".join(message.split())[:_LONGEST_MESSAGE]
    _log.error("%s: %s", failure.reason, message)
    if termination_log.exists():  # the kubelet makes it
        told = DownloadFailure(reason=failure.reason, message=message)
        termination_log.write_text(told.model_dump_json())


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    # the hub's client has threads that an ordinary exit would wait for
    os._exit(code)


def main() -> None:
    """Download, until done or told to stop."""
    parser = argparse.ArgumentParser(prog="ragtenancy_runtime.download", description=__doc__)
    parser.add_argument("model", help="the model's name on the hub")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104
    parser.add_argument("--internal-port", type=int, default=wiring.INTERNAL_PORT)
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long the hub may be away, with nothing coming, until this gives up",
    )
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    arguments = parser.parse_args()
    logs.configure()
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").handlers.clear()  # ours writes what its own would
    home = os.environ.get("HF_HOME")
    if not home:
        parser.error("environment variable HF_HOME is not set")
    download = Download(arguments.model, Path(home), arguments.patience)
    outcomes: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: outcomes.put(_STOPPED))
    _serve(download, arguments.host, arguments.internal_port)
    work = (download, outcomes, arguments.termination_log)
    threading.Thread(target=_run, args=work, daemon=True).start()
    while True:
        try:
            code = outcomes.get(timeout=_TOLD_EVERY_S)
        except queue.Empty:
            progress = download.progress()
            if progress.total:
                _log.info("%s", wiring.amount(progress.done, progress.total))
            continue
        if code == _STOPPED:
            download.discard_unfinished()
        _exit(code)


if __name__ == "__main__":
    main()
