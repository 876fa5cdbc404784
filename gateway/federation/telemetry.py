"""Logs as JSON lines on standard error, and the process's metrics.

Neither holds a body or a name, and logs hold no amount. Sums of lanes are metrics, which the private port alone tells.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from compliance.terminal import shown
from gateway.federation import correlation
from gateway.federation.build import build

REGISTRY = CollectorRegistry(auto_describe=True)
"""Every metric of the process is registered here and served at /metrics on the private port."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

REQUESTS = Counter(
    "concordat_http_requests", "HTTP requests answered.", ("method", "route", "status"), registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "concordat_http_request_seconds",
    "Time from a request's first byte to its answer's last.",
    ("method", "route"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)


BUILD = Gauge("concordat_build_info", "1 for the build that runs.", ("version", "commit"), registry=REGISTRY)
BUILD.labels(*build()).set(1)
LINES_LOST = Counter("concordat_log_writes_lost", "Writes to the log that failed.", registry=REGISTRY)


class UnfailingStream:
    """A text stream whose failures are counted and never raised: no work ends because its log can't be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or count the loss."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            LINES_LOST.inc()
            return len(text)

    def flush(self) -> None:
        """Flush, or count the loss."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            LINES_LOST.inc()


def configure_logging(level: str = "info") -> None:
    """Send structlog's and the standard library's records to standard error, one JSON object a line."""
    stream = cast(TextIO, UnfailingStream(sys.stderr))
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_correlation_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.ExceptionRenderer(_frames),
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # Each line in one write, so that no other comes between it and its end.
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_frames),
                structlog.processors.JSONRenderer(serializer=_encode),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # These tell every request or every step; ours tell what matters.
    for name in ("httpx", "httpcore", "alembic", "apscheduler", "uvicorn.access"):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _add_correlation_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    correlation_id = correlation.current()
    if correlation_id is not None:
        event["correlation_id"] = correlation_id
    return event


def _frames(exc_info: structlog.typing.ExcInfo) -> str:
    """Name an exception and the lines it passed, without its message: a database's messages quote rows."""
    kind, _, frame = exc_info
    trace: TracebackType | None = frame
    lines = []
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return f"{kind.__module__}.{kind.__qualname__} at " + " < ".join(reversed(lines))


def _encode(event: Any, **_: Any) -> str:
    """Return a record as one line, whatever it holds: what a stranger wrote can neither end it nor lose it."""
    escaped = {name: shown(value) if isinstance(value, str) else value for name, value in event.items()}
    try:
        return msgspec.json.encode(escaped, enc_hook=str).decode()
    except Exception:  # something inside that can't be encoded
        return msgspec.json.encode({name: shown(value) for name, value in event.items()}).decode()
