"""`SimulatorParams`: everything a simulated campaign depends on, its seed included."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Literal

from schemas.errors import QosError

MINIMUM_GAP_S = 300  # between two sessions of one UE
LEAD_IN_S = 60  # cells report this long before the first session of a wave
STAGGER_S = 120  # sessions of one wave start within this time
SHORTEST, LONGEST = 0.6, 1.4  # session lengths, as multiples of their mean


@dataclass(frozen=True)
class MobilityMix:
    """Shares of the UEs by how they move; taken relative to their sum."""

    static: float = 0.25
    linear: float = 0.25
    waypoint: float = 0.25
    manhattan: float = 0.25
    l_shaped: float = 0.0
    random_direction: float = 0.0
    group: float = 0.0
    trace: float = 0.0

    def __post_init__(self) -> None:
        """Raises QosError for shares that are none."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        for name, share in given.items():
            if not 0.0 <= share < float("inf"):
                raise QosError(f"simulator.mobility.{name}: {share}, must be at least 0")
        if not sum(given.values()) > 0.0:
            raise QosError(f"simulator.mobility: all shares are 0, one must be above: {given}")

    @classmethod
    def only(cls, kind: str) -> "MobilityMix":
        """All move in one way."""
        return cls(**{one.name: float(one.name == kind) for one in fields(cls)})

    @property
    def shares(self) -> tuple[float, ...]:
        """They sum to 1, in the order of the fields."""
        given = [float(getattr(self, one.name)) for one in fields(self)]
        return tuple(share / sum(given) for share in given)


@dataclass(frozen=True)
class SimulatorParams:
    """A drive campaign over a hexagonal three-sector network, in waves of concurrent sessions.

    UEs of one wave compete for the same cells; waves lie far enough apart to be independent.
    """

    seed: int = 1
    sites: int = 4  # of three sectors each
    inter_site_m: float = 500.0
    scenario: Literal["UMa", "UMi"] = "UMa"  # 3GPP TR 38.901, 7.2
    carrier_ghz: float = 3.5
    bandwidth_mhz: float = 40.0
    ues: int = 48
    minutes: float = 30.0  # of every UE, over all its sessions
    sessions: int = 6  # of every UE
    spread_hours: float = 72.0  # from the first wave to the last
    concurrent: int = 12  # UEs a wave
    start: datetime = datetime(2026, 3, 2, tzinfo=UTC)
    load: float = 1.0  # scales the background traffic
    hysteresis_db: float = 2.5  # event A3, 3GPP TS 38.331, 5.5.4.4
    time_to_trigger_s: int = 1  # whole seconds, the step of the simulation
    late_share: float = 0.01  # rows that arrive 1 to 20 s later than they should
    duplicate_share: float = 0.002  # rows sent twice, half of them with other values
    fault_share: float = 0.002  # rows with a value that cannot be
    mmtc_share: float = 0.0  # of the sessions, machines that send little (5QI 10)
    anomalies: int = 0  # of each kind of anomalies.KINDS, over all waves
    upgrade_after_h: float = 0.0  # from the start, when the first site gets new software; 0: never
    upgrade_gain: float = 1.1  # by which new software multiplies a cell's rate
    mobility: MobilityMix = MobilityMix()
    trace_file: str = ""  # recorded ways of the UEs of kind trace, see traces.COLUMNS

    def __post_init__(self) -> None:
        """Raises QosError for a campaign that cannot be."""
        for name in ("sites", "ues", "sessions", "concurrent"):
            _at_least(name, getattr(self, name), 1)
        _at_least("time_to_trigger_s", self.time_to_trigger_s, 0)
        _at_least("anomalies", self.anomalies, 0)
        _at_least("upgrade_after_h", self.upgrade_after_h, 0)
        positive = (
            "minutes",
            "inter_site_m",
            "carrier_ghz",
            "bandwidth_mhz",
            "load",
            "upgrade_gain",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise QosError(f"simulator.{name}: {getattr(self, name)}, must be above 0")
        for name in ("late_share", "duplicate_share", "fault_share", "mmtc_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise QosError(f"simulator.{name}: {getattr(self, name)}, must be in [0, 1]")
        if self.scenario not in ("UMa", "UMi"):
            raise QosError(f"simulator.scenario: '{self.scenario}', known: ['UMa', 'UMi']")
        if not 0.5 <= self.carrier_ghz <= 100:
            raise QosError(
                f"simulator.carrier_ghz: {self.carrier_ghz}, must be in [0.5, 100] GHz "
                "(3GPP TR 38.901, 7.4.1)"
            )
        if self.start.utcoffset() is None:
            raise QosError(f"simulator.start: {self.start} has no time zone; UTC is asked for")
        if bool(self.trace_file) != (self.mobility.trace > 0):
            raise QosError(
                f"simulator.trace_file: '{self.trace_file}' with mobility.trace: "
                f"{self.mobility.trace}; the one asks for the other"
            )
        if self.wave_ticks + MINIMUM_GAP_S > self.wave_spacing_s:
            raise QosError(
                f"simulator: {self.waves} waves of up to {self.wave_ticks} s and gaps of "
                f"{MINIMUM_GAP_S} s do not fit into spread_hours: {self.spread_hours}"
            )

    @property
    def groups(self) -> int:
        """Waves that it takes to give every UE one session."""
        return -(-self.ues // self.concurrent)

    @property
    def waves(self) -> int:
        """Waves in all."""
        return self.groups * self.sessions

    @property
    def mean_session_s(self) -> float:
        """Mean length of a session in s."""
        return self.minutes * 60 / self.sessions

    @property
    def wave_ticks(self) -> int:
        """Seconds simulated for each wave, its lead-in included."""
        return LEAD_IN_S + STAGGER_S + int(self.mean_session_s * LONGEST) + 1

    @property
    def wave_spacing_s(self) -> int:
        """Seconds from the start of one wave to the start of the next."""
        return int(self.spread_hours * 3600 / max(self.waves - 1, 1))


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise QosError(f"simulator.{name}: {value}, must be at least {low}")
