"""The Open Inference Protocol: a real client of the protocol, and requests made by hand."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from models.bundle import Bundle
from serving.oip import MATRIX, output_names
from serving.state import Service
from tests.conftest import World
from tests.serving.core_kit import NAMES, rows_of
from tests.serving.models_kit import place_of, served


@pytest.fixture(scope="module")
def running_service(
    small_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, Service]]:
    with served(place_of(small_world, tmp_path_factory.mktemp("oip"))) as found:
        yield found


@pytest.fixture
def client(running_service: tuple[httpx.Client, Service]) -> httpx.Client:
    return running_service[0]


@pytest.fixture
def bundle(running_service: tuple[httpx.Client, Service]) -> Bundle:
    return running_service[1].live.bundle


def asked(client: httpx.Client, content: Any, path: str = "/v2/models/qos/infer") -> httpx.Response:
    return client.post(path, json=content)


def whole(matrix: np.ndarray) -> dict[str, Any]:
    data = [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]
    return {"name": MATRIX, "shape": list(matrix.shape), "datatype": "FP64", "data": data}


def test_a_triton_client_gets_what_the_bundle_says(client: httpx.Client, bundle: Bundle) -> None:
    matrix = rows_of(7)[0]
    with triton.InferenceServerClient(str(client.base_url.netloc.decode())) as other:
        assert other.is_server_live() and other.is_server_ready()
        assert other.is_model_ready("qos") and other.is_model_ready("qos", "1")
        assert other.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        known = other.get_model_metadata("qos")
        assert known["inputs"] == [{"name": MATRIX, "datatype": "FP64", "shape": [-1, len(NAMES)]}]
        given = triton.InferInput(MATRIX, list(matrix.shape), "FP64")
        given.set_data_from_numpy(matrix)  # as bytes, NaN = unknown
        reply = other.infer("qos", [given], request_id="abc", model_version="1")
        assert reply.get_response()["id"] == "abc"
        for task in bundle.tasks:
            probability, band = bundle.predict(task, matrix)
            assert np.array_equal(reply.as_numpy(f"{task}_probability"), probability)
            assert band is not None
            assert np.array_equal(reply.as_numpy(f"{task}_p90"), band[:, 2])
        wanted = [triton.InferRequestedOutput("qos_met_probability", binary_data=False)]
        reply = other.infer("qos", [given], outputs=wanted)
        assert [one["name"] for one in reply.get_response()["outputs"]] == ["qos_met_probability"]
        expected = bundle.predict("qos_met", matrix)[0]
        assert np.array_equal(reply.as_numpy("qos_met_probability"), expected)


def test_json_by_hand_null_is_unknown(client: httpx.Client, bundle: Bundle) -> None:
    matrix = rows_of(3)[0]
    reply = asked(client, {"id": "7", "inputs": [whole(matrix)]})
    assert reply.status_code == 200, reply.text
    content = reply.json()
    assert (content["model_name"], content["model_version"], content["id"]) == ("qos", "1", "7")
    found = {one["name"]: one for one in content["outputs"]}
    assert list(found) == output_names(bundle)
    expected = bundle.predict("latency_loss", matrix)[0]
    assert found["latency_loss_probability"]["data"] == expected.tolist()
    assert found["latency_loss_probability"]["shape"] == [3]


def test_one_tensor_a_feature_and_the_others_are_unknown(
    client: httpx.Client, bundle: Bundle
) -> None:
    name = "ue_rsrp_dbm_last_5s"
    given = {"name": name, "shape": [2, 1], "datatype": "FP32", "data": [-90.5, None]}
    reply = asked(client, {"inputs": [given], "outputs": [{"name": "qos_met_probability"}]})
    matrix = np.full((2, len(NAMES)), np.nan)
    matrix[0, NAMES.index(name)] = -90.5
    assert reply.json()["outputs"][0]["data"] == bundle.predict("qos_met", matrix)[0].tolist()


def test_bytes_in_json_out_and_an_integer_datatype(client: httpx.Client, bundle: Bundle) -> None:
    given = {
        "name": NAMES[0],
        "shape": [2],
        "datatype": "INT32",
        "parameters": {"binary_data_size": 8},
    }
    header = json.dumps({"inputs": [given]}).encode()
    reply = client.post(
        "/v2/models/qos/versions/1/infer",
        content=header + struct.pack("<ii", -90, -91),
        headers={
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        },
    )
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert len(reply.json()["outputs"][0]["data"]) == 2


GOOD = {"name": NAMES[0], "shape": [1], "datatype": "FP64", "data": [-91.5]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"inputs": []}, "at least 1"),
        ({"inputs": [GOOD | {"name": "unheard_of"}]}, "no such feature"),
        ({"inputs": [GOOD, GOOD]}, "given twice"),
        ({"inputs": [GOOD | {"shape": [2]}]}, "1 values, its shape"),
        ({"inputs": [GOOD | {"shape": [-1]}]}, "1 to 10000 rows"),
        ({"inputs": [GOOD | {"shape": [10_001], "data": [0] * 10_001}]}, "1 to 10000 rows"),
        ({"inputs": [GOOD | {"data": ["1.0"]}]}, "numbers or null"),
        ({"inputs": [GOOD | {"data": [True]}]}, "numbers or null"),
        ({"inputs": [GOOD | {"data": [[[1.0]]]}]}, "numbers or null"),
        ({"inputs": [GOOD | {"data": [10**400]}]}, "too large"),
        ({"inputs": [GOOD | {"data": [91.5]}]}, "-156 to -31 [dBm]; 1 values are outside"),
        ({"inputs": [GOOD | {"datatype": "INT64"}]}, "-91.5 is no INT64"),
        ({"inputs": [GOOD | {"shape": ["1"]}]}, "valid integer"),
        (
            {"inputs": [GOOD | {"shape": [1, 3], "data": [[-91.5, -91.5], -91.5]}]},
            "3 values in each",
        ),
        ({"inputs": [{k: v for k, v in GOOD.items() if k != "data"}]}, "neither data nor"),
        ({"inputs": [GOOD | {"datatype": "BYTES"}]}, "datatype"),
        ({"inputs": [GOOD | {"colour": "red"}]}, "not permitted"),
        ({"inputs": [GOOD], "outputs": [{"name": "fate"}]}, "no output 'fate'"),
        ({"inputs": [GOOD | {"name": MATRIX, "shape": [1, 1]}]}, "1 columns, the model takes"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": -1}}]}, "a count of bytes"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 8}}]}, "binary_data_size says 8"),
    ],
)
def test_what_the_model_does_not_take_is_a_400_that_says_why(
    client: httpx.Client, content: Any, told: str
) -> None:
    reply = asked(client, content)
    assert reply.status_code == 400, reply.text
    assert told in reply.json()["error"]


def test_other_models_versions_bodies_and_media_are_refused(client: httpx.Client) -> None:
    assert asked(client, {"inputs": [GOOD]}, "/v2/models/other/infer").status_code == 404
    assert asked(client, {"inputs": [GOOD]}, "/v2/models/qos/versions/9/infer").status_code == 404
    assert client.get("/v2/models/other").json() == {"error": "no model 'other'; 'qos' is served"}
    assert client.get("/v2/models/other/ready").status_code == 404
    assert client.get("/v2/models/qos/versions/9").status_code == 404
    assert client.get("/v2/models/qos/versions/1").json() == client.get("/v2/models/qos").json()
    url = "/v2/models/qos/infer"
    assert client.post(url, content=b"{}").status_code == 415
    headers = {"Content-Type": "application/json"}
    assert client.post(url, content=b'{"a": NaN}', headers=headers).status_code == 400
    assert client.post(url, content=b" " * (51 << 20), headers=headers).status_code == 413
    for length in ("99", "-1", "x", "²"):
        raw = {
            b"inference-header-content-length": length.encode(),
            b"content-type": b"application/json",
        }
        reply = client.post(url, content=b"{}", headers=list(raw.items()))
        assert reply.status_code == 400, length
