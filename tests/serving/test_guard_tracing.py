"""Traces: only with an endpoint, by route and stage, without subscriber ids, within the caller's trace."""

import asyncio
import builtins
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from schemas.errors import QosError
from serving.tracing import OWN_TRACES_ONLY, Tracing, tracing_of
from tests.serving.guard_kit import app_of, client_of, settings_with


@pytest.fixture
def traced() -> Iterator[tuple[Tracing, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, batched=False)
    yield tracing, exporter
    tracing.end()


def test_without_an_endpoint_there_are_none() -> None:
    assert tracing_of(settings_with(auth="off")) is None


def test_a_request_is_a_span_by_its_route_without_ids(
    traced: tuple[Tracing, InMemorySpanExporter],
) -> None:
    tracing, exporter = traced
    with client_of(app_of(settings_with(auth="off"), tracing)) as client:
        client.get(
            "/api/items/imsi-001010123456789?ue=imsi-001010123456789",
            headers={"x-request-id": "r-1"},
        )
        client.get("/nowhere/imsi-001010123456789")
        client.get("/api/broken")
        client.get("/health/live")
        client.get("/metrics")
    spans = exporter.get_finished_spans()
    assert [one.name for one in spans] == ["GET /api/items/{name}", "GET other", "GET /api/broken"]
    assert "001010123456789" not in "".join(one.to_json() for one in spans)
    attributes = spans[0].attributes
    assert attributes is not None
    assert attributes["http.response.status_code"] == 200
    assert attributes["request.id"] == "r-1"


def test_a_stage_lies_within_its_request_and_a_fault_is_named_without_its_text(
    traced: tuple[Tracing, InMemorySpanExporter],
) -> None:
    tracing, exporter = traced
    with tracing.request({}), pytest.raises(ValueError), tracing.span("score", rows=4):
        raise ValueError("imsi-001010123456789")
    stage, request = exporter.get_finished_spans()
    assert stage.parent is not None
    assert stage.parent.span_id == request.context.span_id
    assert stage.attributes == {"rows": 4, "error.type": "ValueError"}
    assert "001010123456789" not in stage.to_json()


@pytest.mark.parametrize(("telemetry", "seen"), [(OWN_TRACES_ONLY, False), ({}, True)])
def test_the_frameworks_own_spans_would_bear_ids_and_are_left_off(
    telemetry: TelemetryConfig, seen: bool
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = FastAPI(telemetry={**telemetry, "tracer_provider": provider})

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            await client.get("/nowhere/imsi-001010123456789")

    asyncio.run(ask())
    spans = "".join(one.to_json() for one in exporter.get_finished_spans())
    assert ("001010123456789" in spans) == seen


@pytest.mark.parametrize(("flag", "count"), [("01", 1), ("00", 0)])
def test_it_is_part_of_the_callers_trace_if_that_is_traced(flag: str, count: int) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, share=0.0, batched=False)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with tracing.request({b"traceparent": f"00-{trace}-{parent}-{flag}".encode()}):
        pass
    with tracing.request({}):
        pass
    with tracing.request({b"traceparent": b"no such \xff"}):
        pass
    spans = exporter.get_finished_spans()
    assert len(spans) == count
    assert all(f"{one.context.trace_id:032x}" == trace for one in spans)
    tracing.end()


def test_spans_reach_a_collector() -> None:
    came: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        tracing = tracing_of(settings_with(auth="off", trace_endpoint=address, trace_share=1.0))
        assert tracing is not None
        with tracing.request({}):
            pass
        tracing.end()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    path, body = came[0]
    assert path == "/v1/traces"
    sent = ExportTraceServiceRequest.FromString(body)
    assert [one.name for one in sent.resource_spans[0].scope_spans[0].spans] == ["request"]


def test_a_collector_that_is_away_holds_up_no_request() -> None:
    settings = settings_with(auth="off", trace_endpoint="http://127.0.0.1:9", trace_share=1.0)
    tracing = tracing_of(settings)
    assert tracing is not None
    with client_of(app_of(settings, tracing)) as client:
        began = time.monotonic()
        assert client.get("/api/items/a").status_code == 200
        assert time.monotonic() - began < 1
    began = time.monotonic()
    tracing.end()
    assert time.monotonic() - began < 10


def test_an_endpoint_without_the_library_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(QosError, match="install the extra `tracing`"):
        tracing_of(settings_with(auth="off", trace_endpoint="http://127.0.0.1:9"))
