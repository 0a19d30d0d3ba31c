"""OpenTelemetry's SDK in a worker, for ``--otel``: made after the fork, flushed at the worker's end.

The environment configures it, as OpenTelemetry's specification has it: ``OTEL_TRACES_EXPORTER``,
``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_BSP_SCHEDULE_DELAY`` and others.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import Final

from uwsgibridge._version import __version__
from uwsgibridge.errors import SettingsError
from uwsgibridge.telemetry.logs import Logger

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import (
        SERVICE_INSTANCE_ID,
        SERVICE_NAME,
        Resource,
    )
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
except ImportError as error:
    raise SettingsError(
        f"--otel needs OpenTelemetry's SDK: pip install 'uwsgibridge[otel]' ({error})"
    ) from None

from uwsgibridge.telemetry.otel_spans import Spans

# What a name of OTEL_TRACES_EXPORTER is called among the entry points; "otlp" depends on the protocol.
_EXPORTERS: Final = "opentelemetry_traces_exporter"
_OTLP_BY_PROTOCOL: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_NO_NAME: Final = "unknown_service"


class Otel:
    """What a worker has of OpenTelemetry.

    Where the application has set a provider of its own, spans go to that: then it is for the application to configure
    it, also after a fork.

    Args:
        app_name: the service's name, where the environment has none.
        logger: where failures are told.

    Raises:
        SettingsError: OTEL_TRACES_EXPORTER names what is not installed.
    """

    def __init__(self, app_name: str, logger: Logger) -> None:
        self._log = logger
        self._own: TracerProvider | None = None
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            provider = self._own = self._make_provider(app_name)
            trace.set_tracer_provider(provider)
        else:
            self._warn_of_dead_threads(provider)
        self._provider = provider
        self.spans = Spans(trace.get_tracer("uwsgibridge", __version__, provider), logger)

    def finish(self, seconds: float) -> None:
        """Export the spans that are left, and wait for it no longer than so many seconds."""
        flush = getattr(self._provider, "force_flush", None)
        if flush is None or not seconds:
            return

        def finish() -> None:
            flush()
            if self._own is not None:
                self._own.shutdown()

        # The SDK's own limits do not count: an exporter tries again and again for ten seconds.
        thread = threading.Thread(target=finish, name="last spans", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            return
        thread.join(seconds)
        if thread.is_alive():
            self._log.warning(
                "spans are lost: they could not be exported before the worker's end",
                seconds=seconds,
                option="--otel-flush-seconds",
            )

    def _make_provider(self, app_name: str) -> TracerProvider:
        resource = Resource.create()
        own = {}
        if str(resource.attributes.get(SERVICE_NAME, _NO_NAME)).startswith(_NO_NAME):
            own[SERVICE_NAME] = app_name
        if SERVICE_INSTANCE_ID not in resource.attributes:
            own[SERVICE_INSTANCE_ID] = str(uuid.uuid4())
        # Not at Python's exit, where nobody limits how long that takes: `finish` does it.
        provider = TracerProvider(resource=resource.merge(Resource(own)), shutdown_on_exit=False)
        for exporter in _make_exporters():
            provider.add_span_processor(BatchSpanProcessor(_Watched(exporter, self._log)))
        return provider

    def _warn_of_dead_threads(self, provider: trace.TracerProvider) -> None:
        """Tell where the provider of the application has been forked, and its SDK does not start its threads anew."""
        many = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
        for it in many:
            thread = getattr(getattr(it, "_batch_processor", it), "_worker_thread", None)
            if isinstance(thread, threading.Thread) and not thread.is_alive():
                self._log.warning(
                    "OpenTelemetry's thread that exports the application's spans does not run in this worker",
                    hint="make the provider in --on-fork, leave out --preload, or use a newer SDK",
                )


def _make_exporters() -> Iterator[SpanExporter]:
    for word in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        name = word.strip()
        if name in {"", "none"}:
            continue
        if name == "otlp":
            protocol = (
                os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
                or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
                or "http/protobuf"
            )
            name = _OTLP_BY_PROTOCOL.get(protocol, protocol)
        found = [*entry_points(group=_EXPORTERS, name=name)]
        if not found:
            raise SettingsError(
                f"--otel: there is no exporter {name!r} of OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_PROTOCOL: "
                "pip install its package, opentelemetry-exporter-otlp-proto-grpc for grpc"
            )
        yield found[0].load()()


class _Watched(SpanExporter):
    """An exporter whose failures become one event, and not a line of the SDK each time.

    Args:
        exporter: exports.
        logger: where failures are told.
    """

    def __init__(self, exporter: SpanExporter, logger: Logger) -> None:
        self._exporter = exporter
        self._log = logger
        self._lost = 0
        self._reason = ""
        # The exporter says why by a logger of its module, and gives no reason.
        logging.getLogger(type(exporter).__module__).addFilter(self._note_reason)

    def _note_reason(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self._reason = record.getMessage()[:500]
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; told is the first failure of several, and that it goes on."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - any exporter's
            self._reason = f"{type(error).__name__}: {error}"[:500]
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                self._log.info("spans are exported again", lost=self._lost)
                self._lost = 0
            return result
        if not self._lost:
            self._log.warning(
                "spans can't be exported", reason=self._reason, option="OTEL_EXPORTER_OTLP_ENDPOINT"
            )
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the exporter send what it has."""
        return self._exporter.force_flush(timeout_millis)
