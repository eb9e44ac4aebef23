"""Tensors of the Open Inference Protocol v2: to the model's matrix and back, as JSON or as bytes."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.bundle import Bundle

Floats = NDArray[np.float64]
MATRIX = "features"  # the input that holds all of them, rows x features
MOST_ROWS = 10_000
_DTYPES = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}
_QUANTILES = ("p10", "p50", "p90")
Range = tuple[float | None, float | None, str]
Shape = list[int]
Parameters = dict[str, str | int | float | bool | None]


class BadTensor(Exception):
    """An input that is not what the model takes; says which and why."""


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class InputTensor(_Part):
    """One input; data: row-major, flat or nested, null = unknown; absent where its bytes follow."""

    name: str = Field(max_length=256)
    shape: Shape = Field(min_length=1, max_length=2)
    datatype: Literal["FP32", "FP64", "INT32", "INT64"]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class WantedOutput(_Part):
    """An output that is asked for."""

    name: str = Field(max_length=256)
    parameters: Parameters | None = None


class InferRequest(_Part):
    """inputs: `features` (rows x all features, in the model's order), or one tensor a feature (rows, or
    rows x 1); features without a tensor are unknown. outputs: those wanted, default all."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "1",
                    "inputs": [
                        {"name": "ue_rsrp_dbm_last_5s", "shape": [2], "datatype": "FP64",
                         "data": [-91.5, None]}
                    ],
                    "outputs": [{"name": "qos_met_probability"}],
                }
            ]
        },
    )  # fmt: skip

    id: str | None = Field(default=None, max_length=256)
    parameters: Parameters | None = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=1000)
    outputs: list[WantedOutput] | None = Field(default=None, max_length=1000)


class OutputTensor(BaseModel):
    """One value a row; parameters: `binary_data_size`, where its bytes follow the JSON."""

    name: str
    datatype: str
    shape: Shape
    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferReply(BaseModel):
    """The outputs that were asked for, in that order."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def output_names(bundle: Bundle) -> list[str]:
    """`<task>_probability` and, for a continuous target, `<task>_p10`, `_p50`, `_p90`."""
    return [
        f"{task}_{kind}"
        for task in sorted(bundle.tasks)
        for kind in ("probability", *(_QUANTILES if bundle.tasks[task].quantiles else ()))
    ]


def matrix_of(
    asked: InferRequest, raw: bytes, features: list[str], ranges: Mapping[str, Range]
) -> Floats:
    """Rows x features, NaN = unknown; raises `BadTensor`.

    raw: the bytes after the JSON header; ranges: (low, high, unit) of features, None = unbounded.
    """
    tensors: dict[str, Floats] = {}
    start = 0
    for tensor in asked.inputs:
        if tensor.name in tensors:
            raise BadTensor(f"input {tensor.name!r} is given twice")
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            tensors[tensor.name] = _from_json(tensor)
            continue
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise BadTensor(f"input {tensor.name!r}: binary_data_size must be a count of bytes")
        tensors[tensor.name] = _from_bytes(tensor, raw[start : start + size], size)
        start += size
    if start != len(raw):
        raise BadTensor(f"{len(raw)} bytes follow the header, the inputs speak of {start}")
    matrix = _whole(tensors, features) if MATRIX in tensors else _by_feature(tensors, features)
    _check_ranges(matrix, features, ranges)
    return matrix


def answers(bundle: Bundle, matrix: Floats, wanted: list[str]) -> dict[str, Floats]:
    """Each wanted output, one value a row; only the tasks that are asked for are scored."""
    found: dict[str, Floats] = {}
    for task in sorted(bundle.tasks):
        names = [name for name in wanted if name.rpartition("_")[0] == task]
        if not names:
            continue
        probability, band = bundle.predict(task, matrix)
        found[f"{task}_probability"] = probability
        if band is not None:
            found |= {f"{task}_{name}": band[:, n] for n, name in enumerate(_QUANTILES)}
    return {name: found[name] for name in wanted}


def _from_json(tensor: InputTensor) -> Floats:
    if tensor.data is None:
        raise BadTensor(f"input {tensor.name!r} has neither data nor binary_data_size")
    flat = tensor.data
    if any(isinstance(row, list) for row in flat):
        width = tensor.shape[1] if len(tensor.shape) == 2 else 1
        if not all(isinstance(row, list) and len(row) == width for row in flat):
            raise BadTensor(f"input {tensor.name!r}: nested data needs {width} values in each row")
        flat = [item for row in flat for item in row]
    whole = tensor.datatype.startswith("INT")
    for value in flat:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadTensor(f"input {tensor.name!r}: its data must be numbers or null")
        if whole and isinstance(value, float) and not value.is_integer():
            raise BadTensor(f"input {tensor.name!r}: {value!r} is no {tensor.datatype}")
    try:
        values = np.array([np.nan if value is None else float(value) for value in flat])
    except OverflowError:
        raise BadTensor(f"input {tensor.name!r}: a number is too large") from None
    return _shaped(tensor, values.astype(np.float64))


def _from_bytes(tensor: InputTensor, raw: bytes, size: int) -> Floats:
    dtype = np.dtype(_DTYPES[tensor.datatype])
    if tensor.data is not None or len(raw) != size or size % dtype.itemsize:
        raise BadTensor(f"input {tensor.name!r}: {len(raw)} bytes, binary_data_size says {size}")
    return _shaped(tensor, np.frombuffer(raw, dtype).astype(np.float64))


def _shaped(tensor: InputTensor, values: Floats) -> Floats:
    if min(tensor.shape) < 1 or tensor.shape[0] > MOST_ROWS:
        raise BadTensor(
            f"input {tensor.name!r}: shape {tensor.shape}; 1 to {MOST_ROWS} rows are taken"
        )
    columns = tensor.shape[1] if len(tensor.shape) == 2 else 1
    if len(values) != tensor.shape[0] * columns:
        raise BadTensor(
            f"input {tensor.name!r}: {len(values)} values, its shape {tensor.shape} has "
            f"{tensor.shape[0] * columns}"
        )
    if np.isinf(values).any():
        raise BadTensor(f"input {tensor.name!r}: infinite values are no measurements")
    return values.reshape(tensor.shape[0], columns)


def _check_ranges(matrix: Floats, features: list[str], ranges: Mapping[str, Range]) -> None:
    nowhere = (None, None, "")
    bounds = [ranges.get(name, nowhere) for name in features]
    low = np.array([-np.inf if one[0] is None else one[0] for one in bounds])
    high = np.array([np.inf if one[1] is None else one[1] for one in bounds])
    outside = (matrix < low) | (matrix > high)
    if outside.any():
        row, column = np.argwhere(outside)[0].tolist()
        least, most, unit = bounds[column]
        raise BadTensor(
            f"feature {features[column]!r}: {matrix[row, column]:g} in row {row}; allowed: {least} to "
            f"{most} [{unit}]; {int(outside.sum())} values are outside their range"
        )


def _whole(tensors: dict[str, Floats], features: list[str]) -> Floats:
    if len(tensors) > 1:
        raise BadTensor(f"input {MATRIX!r} holds all features; give no other input with it")
    matrix = tensors[MATRIX]
    if matrix.shape[1] != len(features):
        raise BadTensor(
            f"input {MATRIX!r}: {matrix.shape[1]} columns, the model takes {len(features)}, from "
            f"{features[0]!r} to {features[-1]!r}"
        )
    return np.ascontiguousarray(matrix)


def _by_feature(tensors: dict[str, Floats], features: list[str]) -> Floats:
    place = {name: number for number, name in enumerate(features)}
    rows = {tensor.shape[0] for tensor in tensors.values()}
    if len(rows) > 1:
        raise BadTensor(f"inputs of different lengths: {sorted(rows)} rows")
    matrix = np.full((rows.pop(), len(features)), np.nan)
    for name, tensor in tensors.items():
        if name not in place:
            raise BadTensor(f"input {name[:64]!r}: the model has no such feature")
        if tensor.shape[1] != 1:
            raise BadTensor(f"input {name!r}: a feature has one column, not {tensor.shape[1]}")
        matrix[:, place[name]] = tensor[:, 0]
    return matrix
