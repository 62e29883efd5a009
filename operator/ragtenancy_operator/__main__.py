"""Start the operator: ``python -m ragtenancy_operator``."""

import asyncio
import logging
import os
import sys

from ragtenancy_api import logs
from ragtenancy_operator.lease import Lost
from ragtenancy_operator.main import Operator
from ragtenancy_operator.settings import Settings

_log = logging.getLogger("ragtenancy_operator")


async def _run(settings: Settings) -> None:
    operator = Operator(settings)
    operator.take_signals()
    await operator.run()


def main() -> int:
    """Run until SIGTERM; 1 when the lease was lost or the settings are wrong."""
    logs.configure(os.environ.get("RAGTENANCY_LOG_LEVEL", "INFO"))
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment(os.environ)
    except ValueError as error:
        _log.error("%s", error)
        return 1
    code = 0
    try:
        asyncio.run(_run(settings))
    except* Lost as lost:
        _log.error("ending: %s", lost.exceptions)
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
