"""How operator and runtime log: one JSON object a line, on standard output."""

import json
import logging
import sys
from typing import Any, Final

_FIELDS: Final = "fields"


class JSONFormatter(logging.Formatter):
    """``ts`` (seconds since the epoch), ``level``, ``logger``, ``message``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def fields(**values: Any) -> dict[str, Any]:
    """The ``extra`` of a log call that gives its line these fields."""
    return {_FIELDS: values}


def configure(level: str = "INFO") -> None:
    """Log from this level on.

    Raises:
        ValueError: There is no such level.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level, handlers=[handler])
