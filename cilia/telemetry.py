"""Tracing: spans per request and batch, their context as W3C ``traceparent`` on the bus.

Off unless an OTLP endpoint is configured; then nothing of OpenTelemetry is imported and a span
costs a flag's test. A span costs some 20 us when on, so there is one per request or batch, never
one per row or packet.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from cilia.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

TRACEPARENT: Final = "traceparent"


class TelemetryConfig(Struct, frozen=True, kw_only=True):
    """Settings of traces and metrics: which collector gets them, and how often."""

    otlp_endpoint: str = ""
    """Base URL of an OTLP/HTTP collector, such as ``http://127.0.0.1:4318``; empty: traces are off.
    """
    sample_ratio: float = 1.0
    """Share of new traces that are recorded, 0..1; a caller's decision is followed."""
    metrics_seconds: float = 15.0
    """Time between two exports of metrics to the collector."""
    listen: str = ""
    """``host:port`` of /metrics and /healthz; empty: none."""


class _Tracing:
    """The process's tracer; None while tracing is off."""

    tracer: "Tracer | None" = None


def tracing() -> bool:
    """Tell whether spans are recorded."""
    return _Tracing.tracer is not None


@contextmanager
def open_telemetry(config: TelemetryConfig, service: str, metrics: Metrics | None = None) -> Iterator[None]:
    """Export spans, and ``metrics`` if given, while the block runs; what is queued leaves at its
    end.
    """
    if not config.otlp_endpoint:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    resource = Resource.create({"service.name": f"cilia-{service}"})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(config.sample_ratio), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{config.otlp_endpoint}/v1/traces")))
    _Tracing.tracer = provider.get_tracer("cilia")
    try:
        with _export_metrics(config, resource, metrics):
            yield
    finally:
        _Tracing.tracer = None
        provider.shutdown()


@contextmanager
def _export_metrics(config: TelemetryConfig, resource: object, metrics: Metrics | None) -> Iterator[None]:
    if metrics is None:
        yield
        return
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{config.otlp_endpoint}/v1/metrics"),
        export_interval_millis=config.metrics_seconds * 1000,
    )
    provider = MeterProvider([reader], resource=resource)  # type: ignore[arg-type]
    metrics.observe_with(provider.get_meter("cilia"))
    try:
        yield
    finally:
        provider.shutdown()


@contextmanager
def span(name: str, *, parent: str = "", attributes: Mapping[str, str | int] | None = None) -> Iterator[None]:
    """Record the block as a span under ``parent`` (a traceparent), or under the current span."""
    tracer = _Tracing.tracer
    if tracer is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({TRACEPARENT: parent}) if parent else None
    with tracer.start_as_current_span(name, context=context, attributes=attributes):
        yield


def traceparent() -> str:
    """Return the current span's W3C trace context; empty without a span or without tracing."""
    if _Tracing.tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(TRACEPARENT, "")
