"""OpenTelemetry traces, if an endpoint is set and the SDK is installed; else nothing is made."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import QosError
from serving.limits import watched
from serving.logs import REQUEST_ID
from serving.request_log import route_of
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "qos-decision-service"
TRACEPARENT = b"traceparent"
OWN_TRACES_ONLY: TelemetryConfig = {  # FastAPI's own would bear paths, queries and addresses
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False,
    "auto_configure": False,
}  # fmt: skip


class Tracing:
    """Spans of requests and of their stages. They bear the route's template, never a path or an id of
    a subscriber."""

    def __init__(self, exporter: "SpanExporter", share: float = 1.0, batched: bool = True) -> None:
        """share: of the requests that are traced (0..1), unless the caller traces them.

        batched: sent by a thread, some at a time; else at each span's end. Raises `QosError` where the
        SDK is not installed.
        """
        _needed()
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": SERVICE}),
            shutdown_on_exit=False,
        )
        send = BatchSpanProcessor if batched else SimpleSpanProcessor
        self._provider.add_span_processor(send(exporter))
        self._tracer = self._provider.get_tracer("serving")

    @contextlib.contextmanager
    def span(self, name: str, **attributes: str | int | float | bool) -> Iterator[None]:
        """A stage within the span that is under way; exceptions are named without their text."""
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def request(self, headers: dict[bytes, bytes]) -> Any:
        """The span of a request, within the caller's trace if it says so; a context manager."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        told = headers.get(TRACEPARENT, b"").decode("latin-1")
        context = TraceContextTextMapPropagator().extract({"traceparent": told}) if told else None
        return self._tracer.start_as_current_span(
            "request", context=context, kind=SpanKind.SERVER, record_exception=False,
            set_status_on_exception=False,
        )  # fmt: skip

    def end(self) -> None:
        """Sends what is left; may take seconds."""
        self._provider.shutdown()


def tracing_of(settings: ServingSettings) -> Tracing | None:
    """None without an endpoint; spans go to its /v1/traces, over HTTP."""
    if settings.trace_endpoint is None:
        return None
    _needed()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    address = str(settings.trace_endpoint).rstrip("/") + "/v1/traces"
    return Tracing(OTLPSpanExporter(endpoint=address, timeout=5), settings.trace_share)


def _needed() -> None:
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        raise QosError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set and OpenTelemetry is not installed; "
            "install the extra `tracing`, or unset it"
        ) from None


class Traced:
    """ASGI middleware: a span for every request but those of scrapers and health checks."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        """Around an app."""
        self._app, self._tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or watched(scope["path"]):
            await self._app(scope, receive, send)
            return
        with self._tracing.request(dict(scope["headers"])) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, noted)
            finally:
                route = route_of(scope)
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", route)
                span.set_attribute("request.id", REQUEST_ID.get() or "")
