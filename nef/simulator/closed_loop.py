"""Runs in which a policy decides every handover, and what each policy comes to on the same seeds.

A policy sees, after each second, what a network knows then, and says of each UE to which cell it goes;
the cells, ways, loads, requests and draws that it meets do not depend on it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from nef.simulator import city, handover, services, trace
from nef.simulator.params import SimulatorParams
from schemas.errors import QosError
from schemas.five_qi import FIVE_QIS
from schemas.service_class import class_of_5qi

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STAY = handover.STAY
NOBODY = handover.NOBODY
CANDIDATES = 6
WINDOW_S = 10  # after a request, over which it has to be met
PING_PONG_S = 5  # a return to the cell that was left no longer ago
CONFIDENCE = 0.95
RATES = ("handovers_per_minute", "ping_pong_rate", "outage")

# Of each 5QI that the simulator's applications use.
CLASS_OF_5QI: dict[int, str] = {one.five_qi: class_of_5qi(one.five_qi) for one in services.PROFILES}


@dataclass(frozen=True)
class Choices:
    """What is known after second `tick`. Of each UE, (ues,): five_qi; what it asked for last (0 Mbps
    before its first request); serving: cell or NOBODY; since_s: for how long; speed_mps; and what the
    second gave it (NaN without a cell). Of each UE's candidates, (ues, candidates), strongest first,
    the serving cell always among them: cell, or NOBODY where there are fewer; RSRP, RSRQ; and the
    cell's own report of this second, prb_used_ratio and active_ue_count. measured_dbm: (ues, cells).
    """

    tick: int
    five_qi: Ints
    requested_downlink_mbps: Array
    requested_delay_ms: Array
    requested_loss_ratio: Array
    serving: Ints
    since_s: Ints
    speed_mps: Array
    sinr_db: Array
    cqi: Ints
    downlink_mbps: Array
    downlink_delay_ms: Array
    jitter_ms: Array
    packet_loss_ratio: Array
    cell: Ints
    rsrp_dbm: Array
    rsrq_db: Array
    prb_used_ratio: Array
    active_ue_count: Array
    measured_dbm: Array


# (ues,) to which cell each goes, or STAY. Who has no cell is not asked: it returns by itself.
Policy = Callable[[Choices], Ints]
# A fresh policy for so many UEs and cells: what it remembers is of one run.
PolicyMaker = Callable[[int, int], Policy]


def strongest(ues: int, cells: int) -> Policy:
    """Always to the cell measured strongest."""

    def policy(choices: Choices) -> Ints:
        return choices.cell[:, 0]

    return policy


def a3(hysteresis_db: float, time_to_trigger_s: int) -> PolicyMaker:
    """Event A3 of TS 38.331, 5.5.4.4, with a timer for each UE and neighbour."""

    def maker(ues: int, cells: int) -> Policy:
        rule = handover.A3.fresh(ues, cells, hysteresis_db, time_to_trigger_s)
        return lambda choices: rule.targets(choices.serving, choices.measured_dbm)

    return maker


@dataclass(frozen=True)
class Outcome:
    """What one run came to. qos_satisfaction: share of requests met, by class; the rates are of all
    UEs: handovers_per_minute of one UE, ping_pong_rate of its handovers, outage share of the time.
    """

    qos_satisfaction: dict[str, float]
    requests: dict[str, int]
    handovers_per_minute: float
    ping_pong_rate: float
    outage: float
    radio_link_failures: int


def run(
    maker: PolicyMaker,
    params: SimulatorParams,
    seconds: int,
    candidates: int = CANDIDATES,
    classes: Mapping[int, str] = CLASS_OF_5QI,
) -> Outcome:
    """One run of a city (see city.city_params) under a fresh policy.

    A request is met if the means of the ten seconds after it are as asked for: throughput, delay, and
    loss. Raises QosError for a policy that names a cell there is not, or a run shorter than that.
    """
    if seconds <= WINDOW_S:
        raise QosError(f"closed_loop.seconds: {seconds}, must be above {WINDOW_S}")
    loop = _Loop(maker, params, candidates)
    mbps, delay, loss, serving = [], [], [], []
    asked, events = [], []
    for one, happened in city.play(params, seconds, loop):
        mbps.append(happened.downlink_mbps)
        delay.append(happened.downlink_delay_ms)
        loss.append(happened.loss)
        serving.append(happened.serving)
        asked.append(one.asked)
        events += happened.events
    requests = services.Requests(*(np.concatenate([getattr(a, name) for a in asked])
                                   for name in ("session", "tick", "after_s", "mbps")))  # fmt: skip
    met, five_qi = requests_met(
        requests, city.profiles(params), *(np.concatenate(part) for part in (mbps, delay, loss))
    )
    kind = np.array([classes[int(one)] for one in five_qi])
    names = sorted(set(classes.values()) & set(kind.tolist()))
    moves, returns = handovers_of(events)
    minutes = params.ues * seconds / 60.0
    return Outcome(
        qos_satisfaction={name: float(met[kind == name].mean()) for name in names},
        requests={name: int((kind == name).sum()) for name in names},
        handovers_per_minute=moves / minutes,
        ping_pong_rate=returns / moves if moves else 0.0,
        outage=float((np.concatenate(serving) == NOBODY).mean()),
        radio_link_failures=sum(who.size for _, name, who, *_ in events if "failure" in name),
    )


class _Loop:
    """Between the network and a policy: what it remembers for it, and whether its answer can be."""

    def __init__(self, maker: PolicyMaker, params: SimulatorParams, candidates: int) -> None:
        cells = params.sites * 3
        self._cells, self._count = cells, min(candidates, cells)
        self._policy = maker(params.ues, cells)
        profile = city.profiles(params)
        self._five_qi, self._delay_ms, self._loss = promised(profile)
        self._mbps = np.zeros(params.ues)
        self._serving = np.full(params.ues, NOBODY)
        self._since = np.zeros(params.ues, dtype=np.int64)

    def __call__(self, one: city.Stretch, seen: trace.Seen) -> Ints:
        """The policy's answer, where there is a cell to leave."""
        new = one.asked.tick == seen.tick
        self._mbps[one.asked.session[new]] = one.asked.mbps[new]
        self._since = np.where(seen.serving == self._serving, self._since + 1, 0)
        self._serving = seen.serving.copy()
        target = np.asarray(self._policy(self._choices(one, seen)))
        wrong = (target < STAY) | (target >= self._cells)
        shaped = target.shape == seen.serving.shape
        if not shaped or wrong.any():
            answer = f"{target[wrong][0]}" if shaped else f"an array of {target.shape}"
            raise QosError(
                f"closed_loop: the policy answers {answer} at second {seen.tick}; asked for is a cell "
                f"0..{self._cells - 1} or {STAY} (stay) for each of {seen.serving.size} UEs"
            )
        return np.where(seen.serving == NOBODY, STAY, target)

    def _choices(self, one: city.Stretch, seen: trace.Seen) -> Choices:
        measured, given, served = seen.now.measured_dbm, seen.given, seen.serving != NOBODY
        cell = np.argsort(-measured, axis=1, kind="stable")[:, : self._count]
        lacking = served & ~(cell == seen.serving[:, None]).any(axis=1)
        cell[lacking, -1] = seen.serving[lacking]
        rsrp = np.take_along_axis(measured, cell, axis=1).astype(np.float64)
        total = (seen.now.received_mw @ given.prb_used[0].astype(seen.now.received_mw.dtype))[
            :, None
        ]
        rsrq = 10.0 * np.log10(10.0 ** (rsrp / 10.0) / (12.0 * (total + seen.now.noise_mw)))
        weak = (rsrp < handover.DETECTABLE_DBM) & (cell != seen.serving[:, None])
        return Choices(
            tick=seen.tick,
            five_qi=self._five_qi,
            requested_downlink_mbps=self._mbps.copy(),
            requested_delay_ms=self._delay_ms,
            requested_loss_ratio=self._loss,
            serving=seen.serving.copy(),
            since_s=self._since.copy(),
            speed_mps=one.tracks.speed_mps[seen.tick - one.first],
            sinr_db=given.sinr_db,
            cqi=given.cqi,
            downlink_mbps=given.downlink_mbps,
            downlink_delay_ms=given.downlink_delay_ms,
            jitter_ms=given.jitter_ms,
            packet_loss_ratio=given.loss,
            cell=np.where(weak, NOBODY, cell),
            rsrp_dbm=np.where(weak, np.nan, rsrp),
            rsrq_db=np.where(weak, np.nan, rsrq),
            prb_used_ratio=np.where(weak, np.nan, given.prb_used[0][cell]),
            active_ue_count=np.where(weak, np.nan, given.users[0][cell]),
            measured_dbm=measured,
        )


def promised(profile: Ints) -> tuple[Ints, Array, Array]:
    """5QI, delay budget in ms and greatest share of loss of each profile, as requests ask for them."""
    five_qi = np.array([services.PROFILES[one].five_qi for one in profile])
    standard = [FIVE_QIS[int(one)] for one in five_qi]
    loss = [max(one.packet_error_rate, services.MEASURABLE_LOSS) for one in standard]
    return five_qi, np.array([one.packet_delay_budget_ms for one in standard]), np.array(loss)


def requests_met(
    asked: services.Requests, profile: Ints, mbps: Array, delay_ms: Array, loss: Array
) -> tuple[npt.NDArray[np.bool_], Ints]:
    """Of each request with a whole window after it: whether it was met, and its 5QI.

    mbps, delay_ms, loss: (ticks, ues) what was given.
    """
    whole = asked.tick + WINDOW_S < mbps.shape[0]
    tick, session = asked.tick[whole], asked.session[whole]
    five_qi, budget_ms, most = promised(profile[session])

    def mean(values: Array) -> Array:
        summed = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0)])
        return np.asarray(
            (summed[tick + 1 + WINDOW_S, session] - summed[tick + 1, session]) / WINDOW_S
        )

    met = (mean(mbps) >= asked.mbps[whole]) & (mean(delay_ms) <= budget_ms) & (mean(loss) <= most)
    return met, five_qi


def handovers_of(events: Sequence[handover.Event]) -> tuple[int, int]:
    """How many handovers there were, and how many went back within PING_PONG_S."""
    moves, returns = 0, 0
    last: dict[int, tuple[int, int]] = {}
    for tick, kind, who, source, target in events:
        if kind != "nr_handover":
            continue
        moves += who.size
        for ue, left, entered in zip(who.tolist(), source.tolist(), target.tolist(), strict=True):
            when, before = last.get(ue, (-PING_PONG_S - 1, NOBODY))
            returns += entered == before and tick - when <= PING_PONG_S
            last[ue] = tick, left
    return moves, returns


def compare(
    makers: Mapping[str, PolicyMaker],
    seeds: Sequence[int],
    params_of: Callable[[int], SimulatorParams],
    seconds: int,
    runs: Callable[[str, int], None] | None = None,
) -> dict[str, list[Outcome]]:
    """The outcomes of each policy on the same seeds; runs: told before each, for progress."""
    found: dict[str, list[Outcome]] = {name: [] for name in makers}
    for seed in seeds:
        for name, maker in makers.items():
            if runs is not None:
                runs(name, seed)
            found[name].append(run(maker, params_of(seed), seconds))
    return found


def tuned_a3(
    seeds: Sequence[int],
    params_of: Callable[[int], SimulatorParams],
    seconds: int,
    hysteresis_db: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
    time_to_trigger_s: Sequence[int] = (0, 1, 2),
) -> tuple[float, int]:
    """The hysteresis and time to trigger that met most requests on these seeds; of equals the one
    with fewer handovers. Compare it on other seeds than these.
    """
    grid = [(db, s) for db in hysteresis_db for s in time_to_trigger_s]
    found = compare({f"{db} {s}": a3(db, s) for db, s in grid}, seeds, params_of, seconds)

    def worth(one: tuple[float, int]) -> tuple[float, float]:
        outcomes = found[f"{one[0]} {one[1]}"]
        moves = np.mean([outcome.handovers_per_minute for outcome in outcomes])
        return float(np.mean([_all(outcome) for outcome in outcomes])), -float(moves)

    return max(grid, key=worth)


def summary(found: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, object]]:
    """By policy: each class's qos_satisfaction with the interval of its mean over the seeds (low,
    high), all requests' together under "all", and the means of the rates.
    """
    told: dict[str, dict[str, object]] = {}
    for policy, outcomes in found.items():
        names = sorted({name for one in outcomes for name in one.qos_satisfaction})
        told[policy] = {
            name: _share([one.qos_satisfaction[name] for one in outcomes if name in one.requests])
            for name in names
        }
        told[policy]["all"] = _share([_all(one) for one in outcomes])
        for rate in RATES:
            told[policy][rate] = round(float(np.mean([getattr(one, rate) for one in outcomes])), 5)
        told[policy]["seeds"] = len(outcomes)
    return told


def difference(
    found: Mapping[str, Sequence[Outcome]], policy: str, other: str
) -> dict[str, dict[str, float]]:
    """How much more a policy gives than another, seed by seed: the mean and its interval."""
    pairs = list(zip(found[policy], found[other], strict=True))
    told = {"qos_satisfaction": interval([_all(one) - _all(two) for one, two in pairs], "mean")}
    for rate in RATES:
        more = [getattr(one, rate) - getattr(two, rate) for one, two in pairs]
        told[rate] = interval(more, "mean")
    return told


def interval(values: Sequence[float], name: str = "qos_satisfaction") -> dict[str, float]:
    """Mean of values and the 95 % interval of that mean by Student's t; one value has no width."""
    mean, count = float(np.mean(values)), len(values)
    half = 0.0
    if count > 1:
        spread = float(np.std(values, ddof=1)) / np.sqrt(count)
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, count - 1) * spread)
    return {name: round(mean, 5), "low": round(mean - half, 5), "high": round(mean + half, 5)}


def _share(values: Sequence[float]) -> dict[str, float]:
    """The interval of a share's mean, which lies in 0..1."""
    return {name: min(max(value, 0.0), 1.0) for name, value in interval(values).items()}


def _all(one: Outcome) -> float:
    total = sum(one.requests.values())
    return sum(one.qos_satisfaction[name] * one.requests[name] for name in one.requests) / total
