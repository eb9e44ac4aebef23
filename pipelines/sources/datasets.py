"""Finds the public data sets: in $QOS_DATASETS, else in the cache, else from their public address.

Every file is held against its SHA-256 before a byte of it is read.
"""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from schemas.errors import QosError

CACHE = Path(".qos/datasets")
TIMEOUT_S = 60


@dataclass(frozen=True)
class Dataset:
    """One file: its place below $QOS_DATASETS, its digest, and its public address if it has one."""

    path: str
    sha256: str
    url: str | None
    made_from: str


UCC5G = Dataset(
    path="ucc5g/5G-production-dataset.zip",
    sha256="abc729d696b5e0ba34a9c6ed35a851f2868d2b5071be5efb8a49691c23bb1a9b",
    url="https://raw.githubusercontent.com/uccmisl/5Gdataset/306d92eb/5G-production-dataset.zip",
    made_from="5G-production-dataset.zip of github.com/uccmisl/5Gdataset at 306d92eb",
)
TAIWAN_HO = Dataset(
    path="taiwan_ho/single.tar.xz",
    sha256="d599caa5bd599e5cc2d216a82c499bb9318481fc9c9ef37daa7145b89b118d08",
    url=None,
    made_from="the folder HO_Prediction/data/single of github.com/Bai1026/WMN-LAB at 84b51b5f, packed "
    "with `tar cJf single.tar.xz single`",
)


def read_dataset(dataset: Dataset) -> bytes:
    """The file's bytes; raises `QosError` naming the file and where to put it."""
    places = [Path(root) for root in (os.environ.get("QOS_DATASETS"), CACHE) if root]
    for place in places:
        file = place / dataset.path
        if file.is_file():
            return _checked(file.read_bytes(), dataset, str(file))
    return _download(dataset)


def _checked(data: bytes, dataset: Dataset, where: str) -> bytes:
    digest = hashlib.sha256(data).hexdigest()
    if digest != dataset.sha256:
        raise QosError(
            f"{where}: wrong checksum: SHA-256 {digest}, expected {dataset.sha256} "
            f"({len(data)} bytes); it should be {dataset.made_from}"
        )
    return data


def _download(dataset: Dataset) -> bytes:
    target = CACHE / dataset.path
    hint = f"put {dataset.made_from} at $QOS_DATASETS/{dataset.path}"
    if dataset.url is None:
        raise QosError(f"{dataset.path}: not found and not published as one file: {hint}")
    console = Console(stderr=True)
    try:
        with (
            console.status(f"downloading {dataset.url}"),
            urllib.request.urlopen(dataset.url, timeout=TIMEOUT_S) as answer,
        ):
            data: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise QosError(f"{dataset.url}: cannot be downloaded ({error}); {hint}") from None
    _checked(data, dataset, dataset.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    beside.write_bytes(data)
    beside.replace(target)
    return data
