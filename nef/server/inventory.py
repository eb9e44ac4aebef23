"""What an operator manages: gNBs, their cells, UEs and the paths they move along."""

import hashlib
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nef.simulator import city, mobility, services, topology
from schemas.nef.wire import Ipv4Addr, Ipv6Addr, MacAddr48

GnbId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6}$")]
CellId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{9}$")]
Supi = Annotated[str, StringConstraints(pattern=r"^[0-9]{15,16}$")]
PathId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
ExternalId = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^@\s]+@[^@\s]+$")]
Latitude = Annotated[float, Field(ge=-80, le=80)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
FiveQiInUse = Literal[1, 2, 7, 9, 80, 82, 10]
Mobility = Literal[
    "static", "linear", "waypoint", "manhattan", "l_shaped", "random_direction", "path"
]
assert {profile.five_qi for profile in services.PROFILES} == set(FiveQiInUse.__args__)  # type: ignore[attr-defined]

MOST = {"gnbs": 64, "cells": 192, "ues": 2000, "paths": 256}


class Managed(BaseModel):
    """Unknown fields are refused: a misspelt one would do nothing. So are texts that are numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Gnb(Managed):
    """A site; degrees of WGS 84."""

    gnb_id: GnbId
    name: Name = ""
    latitude: Latitude
    longitude: Longitude


class Cell(Managed):
    """A sector of a gNB; azimuth_deg: clockwise from north."""

    cell_id: CellId
    gnb_id: GnbId
    name: Name = ""
    azimuth_deg: Annotated[float, Field(ge=0, lt=360)] = 0.0


class Point(Managed):
    """A place, in degrees of WGS 84."""

    latitude: Latitude
    longitude: Longitude


class Path(Managed):
    """A way that is closed: from its last point it goes on to its first."""

    path_id: PathId
    name: Name = ""
    points: Annotated[list[Point], Field(min_length=2, max_length=10_000)]


class Ue(Managed):
    """A UE: its identities, its default traffic and how it moves.

    path_id: the way it follows where mobility is `path`; speed_mps: on that way only, the simulator
    draws the other kinds' speeds; moving: whether it moves now; latitude, longitude: None puts it
    somewhere in the middle of the city.
    """

    supi: Supi
    name: Name = ""
    ipv4: Ipv4Addr | None = None
    ipv6: Ipv6Addr | None = None
    mac: MacAddr48 | None = None
    external_id: ExternalId | None = None
    five_qi: FiveQiInUse = 9
    mobility: Mobility = "waypoint"
    path_id: PathId | None = None
    speed_mps: Annotated[float, Field(ge=0, le=140)] = 1.0
    moving: bool = False
    latitude: Latitude | None = None
    longitude: Longitude | None = None

    def identities(self) -> set[str]:
        """All that a subscription may call it by."""
        known = (self.supi, self.ipv4, self.ipv6, self.mac, self.external_id)
        return {one.lower() for one in known if one}


class Scenario(Managed):
    """A network in whole, for export and import."""

    version: Literal[1] = 1
    gnbs: Annotated[list[Gnb], Field(max_length=MOST["gnbs"])] = []
    cells: Annotated[list[Cell], Field(max_length=MOST["cells"])] = []
    paths: Annotated[list[Path], Field(max_length=MOST["paths"])] = []
    ues: Annotated[list[Ue], Field(max_length=MOST["ues"])] = []

    def faults(self) -> list[tuple[str, str]]:
        """(place, reason) of everything that is double or refers to nothing."""
        found = []
        for kind, key in (("gnbs", "gnb_id"), ("cells", "cell_id"), ("paths", "path_id"),
                          ("ues", "supi")):  # fmt: skip
            seen: set[str] = set()
            for number, one in enumerate(getattr(self, kind)):
                name = getattr(one, key)
                if name in seen:
                    found.append((f"{kind}.{number}.{key}", f"{name!r} came before"))
                seen.add(name)
        gnbs = {one.gnb_id for one in self.gnbs}
        for number, cell in enumerate(self.cells):
            if cell.gnb_id not in gnbs:
                found.append((f"cells.{number}.gnb_id", f"no gNB {cell.gnb_id!r}"))
        paths = {one.path_id for one in self.paths}
        names: dict[str, str] = {}
        for number, ue in enumerate(self.ues):
            if ue.path_id is not None and ue.path_id not in paths:
                found.append((f"ues.{number}.path_id", f"no path {ue.path_id!r}"))
            if ue.mobility == "path" and ue.path_id is None:
                found.append((f"ues.{number}.path_id", "mobility is path: it must be given"))
            for name in ue.identities() - {ue.supi}:
                if names.setdefault(name, ue.supi) != ue.supi:
                    found.append((f"ues.{number}", "an address or id is another UE's"))
        return found


def city_scenario(ues: int, sites: int, seed: int, inter_site_m: float = 500.0) -> Scenario:
    """A simulated city: hexagonal sites of three sectors, UEs of the simulator's mixes, all moving."""
    params = city.city_params(ues, sites, 60, seed=seed, inter_site_m=inter_site_m)
    plan = topology.hexagonal(sites, inter_site_m)
    latitude, longitude = topology.geographic(plan.sites[:, 0], plan.sites[:, 1])
    random = np.random.default_rng((seed, 1))
    kinds = random.choice(len(mobility.KINDS), size=ues, p=params.mobility.shares)
    traffic = [services.PROFILES[one].five_qi for one in city.profiles(params)]
    ids = [f"{site + 1:06x}" for site in range(sites)]
    return Scenario(
        gnbs=[
            Gnb(gnb_id=name, name=f"site {number + 1}", latitude=float(latitude[number]),
                longitude=float(longitude[number]))
            for number, name in enumerate(ids)
        ],
        cells=[
            Cell(cell_id=name.split("-")[1], gnb_id=ids[site], azimuth_deg=float(azimuth))
            for name, site, azimuth in zip(
                plan.cell_ids, plan.cell_site, plan.azimuth_deg, strict=True
            )
        ],
        ues=[
            Ue.model_validate(
                {
                    "supi": f"00101{number + 1:010d}", "name": f"UE {number + 1}",
                    "ipv4": f"10.{number // 65025}.{number // 255 % 255}.{number % 255 + 1}",
                    "external_id": f"ue{number + 1}@example.com", "five_qi": traffic[number],
                    "mobility": mobility.KINDS[kinds[number]], "moving": True,
                }
            )
            for number in range(ues)
        ],
    )  # fmt: skip


def drawn_place(ue: Ue, seed: int, radius_m: float) -> tuple[float, float]:
    """East and north in m of the middle of a UE that has no place: the same for the same supi."""
    digest = hashlib.sha256(f"{seed}/{ue.supi}".encode()).digest()
    far, turn = (int.from_bytes(digest[n : n + 8], "big") / 2**64 for n in (0, 8))
    reach, bearing = radius_m * np.sqrt(0.9 * far), 2.0 * np.pi * turn
    return float(reach * np.cos(bearing)), float(reach * np.sin(bearing))
