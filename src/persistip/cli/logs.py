"""
How does a process of ours write its log?

In: records with their facts in ``extra``.  Out: lines on standard error, as text for people or as JSON for collectors.
On the standard library alone: structlog imports rich, and an agent's start is part of how long a repair takes.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was handed over in ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def instant(record: logging.LogRecord) -> str:
    """RFC 3339 with milliseconds, in UTC, like the API server's own log."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level and message, then the facts; a traceback is one string."""
        line = {"time": instant(record), "level": record.levelname.lower(), "message": record.getMessage()}
        line |= {name: value for name, value in facts(record).items() if name not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, message, then ``name=value`` for each fact."""

    def format(self, record: logging.LogRecord) -> str:
        """Values with white space or quotes are quoted, so that a line can be split again."""
        parts = [instant(record), f"{record.levelname.lower():<7}", record.getMessage()]
        parts += [f"{name}={self._show(value)}" for name, value in facts(record).items()]
        line = " ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    @staticmethod
    def _show(value: object) -> str:
        if isinstance(value, dict):
            value = ",".join(f"{name}={each}" for name, each in value.items())
        elif isinstance(value, list | tuple | frozenset | set):
            value = ",".join(str(each) for each in value)
        text = str(value)
        return json.dumps(text, ensure_ascii=False) if not text or any(each in text for each in ' "\n\t') else text


def configure_logs(format_: Format, level: str) -> None:
    """Send everything from *level* up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter() if format_ == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
