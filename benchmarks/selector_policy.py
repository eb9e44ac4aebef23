"""The learned selector in the simulator's loop: what it sees, how it explores to learn, and its policy.

Everything it goes by is in `closed_loop.Choices`, and so known at the decision; what comes after is
read only by the labels.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from benchmarks.forecast_policy import Reports, forecasting, reporting
from models import gate, rsrp_forecast
from models.rsrp_forecast import Forecast
from models.selector import Pairs, Selector, Settings, features, fit
from nef.simulator import closed_loop
from nef.simulator.closed_loop import NOBODY, STAY, Choices, PolicyMaker
from nef.simulator.params import SimulatorParams
from schemas.five_qi import FIVE_QIS
from schemas.service_class import SERVICE_CLASSES, class_of_5qi

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SMOOTHING = 0.3  # of the newest second, in the means of lately
EXPLORE_SHARE = 0.15  # of the UEs that are free to, each second
HORIZON_S = closed_loop.WINDOW_S  # seconds after a decision over which the request has to be met
AMONG = 4  # candidates that are explored
RETURN_S = closed_loop.PING_PONG_S
LOST_DB = -5.0  # SINR below which a UE leaves its cell without regard to swinging


@dataclass
class Lately:
    """Moving means of one run: RSRP (ues, cells) in dBm, and what each UE was given."""

    rsrp_dbm: Floats | None = None
    given: dict[str, Floats] = field(default_factory=dict)

    def see(self, choices: Choices) -> None:
        """One more second."""
        now = choices.measured_dbm.astype(np.float64)
        old = now if self.rsrp_dbm is None else self.rsrp_dbm
        self.rsrp_dbm = old + SMOOTHING * (now - old)
        for name in ("downlink_mbps", "downlink_delay_ms", "packet_loss_ratio"):
            value = getattr(choices, name)
            before = self.given.get(name, value)
            self.given[name] = before + SMOOTHING * (value - before)


def pairs_of(choices: Choices, lately: Lately) -> tuple[Pairs, Ints, Ints]:
    """The pairs of all UEs that are served and their candidates, with the UE and the column of each."""
    known = (choices.cell != NOBODY) & (choices.serving != NOBODY)[:, None]
    ue, place = np.nonzero(known)
    cell = choices.cell[ue, place]
    home = (choices.cell == choices.serving[:, None]).argmax(axis=1)
    at = home[ue]
    assert lately.rsrp_dbm is not None
    others = np.sort(choices.measured_dbm.astype(np.float64), axis=1)
    rsrp = choices.rsrp_dbm[ue, place]
    guaranteed = np.array(
        [FIVE_QIS[int(one)].resource_type != "Non-GBR" for one in choices.five_qi]
    )
    mean = lately.given
    return (
        Pairs(
            requested_downlink_mbps=choices.requested_downlink_mbps[ue],
            requested_delay_ms=choices.requested_delay_ms[ue],
            requested_loss_ratio=choices.requested_loss_ratio[ue],
            guaranteed=guaranteed[ue].astype(np.float64),
            speed_mps=choices.speed_mps[ue].astype(np.float64),
            since_s=choices.since_s[ue].astype(np.float64),
            sinr_db=choices.sinr_db[ue],
            downlink_mbps=choices.downlink_mbps[ue],
            downlink_mean_mbps=mean["downlink_mbps"][ue],
            downlink_delay_ms=choices.downlink_delay_ms[ue],
            delay_mean_ms=mean["downlink_delay_ms"][ue],
            packet_loss_ratio=choices.packet_loss_ratio[ue],
            loss_mean_ratio=mean["packet_loss_ratio"][ue],
            serving_rsrp_dbm=choices.rsrp_dbm[ue, at],
            serving_rsrp_mean_dbm=lately.rsrp_dbm[ue, choices.serving[ue]],
            serving_rsrq_db=choices.rsrq_db[ue, at],
            serving_prb_used_ratio=choices.prb_used_ratio[ue, at],
            serving_active_ue_count=choices.active_ue_count[ue, at],
            serving=(place == at).astype(np.float64),
            rsrp_dbm=rsrp,
            rsrp_mean_dbm=lately.rsrp_dbm[ue, cell],
            rsrq_db=choices.rsrq_db[ue, place],
            prb_used_ratio=choices.prb_used_ratio[ue, place],
            active_ue_count=choices.active_ue_count[ue, place],
            other_dbm=np.where(place == 0, others[ue, -2], others[ue, -1]),
        ),
        ue,
        place,
    )


@dataclass
class Log:
    """What one exploring run leaves to learn from: features of what was chosen, UE and second of it,
    and what every second gave everybody.
    """

    horizon_s: int = HORIZON_S
    rows: list[Floats] = field(default_factory=list)
    ue: list[Ints] = field(default_factory=list)
    tick: list[Ints] = field(default_factory=list)
    asked: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)
    given: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)

    def learned(self) -> tuple[Floats, Ints]:
        """Features and label of each decision with a whole horizon after it."""
        mbps, delay, loss = (np.array(part) for part in zip(*self.given, strict=True))
        ue, tick = np.concatenate(self.ue), np.concatenate(self.tick)
        asked = [np.concatenate(part) for part in zip(*self.asked, strict=True)]
        whole = tick + self.horizon_s < mbps.shape[0]
        window = tick[whole, None] + 1 + np.arange(self.horizon_s)
        who = ue[whole, None]
        met = mbps[window, who].mean(axis=1) >= asked[0][whole]
        met &= delay[window, who].mean(axis=1) <= asked[1][whole]
        met &= loss[window, who].mean(axis=1) <= asked[2][whole]
        return np.concatenate(self.rows)[whole], met.astype(np.int64)


def exploring(base: PolicyMaker, log: Log, seed: int) -> PolicyMaker:
    """A policy that now and then sends a UE to any of its candidates, stays there for the window of a
    request, and writes down what it knew; the rest of the time another policy decides.
    """

    def maker(ues: int, cells: int) -> closed_loop.Policy:
        random, lately, follow = np.random.default_rng(seed), Lately(), base(ues, cells)
        until = np.zeros(ues, dtype=np.int64)

        def policy(choices: Choices) -> Ints:
            lately.see(choices)
            log.given.append(
                (choices.downlink_mbps, choices.downlink_delay_ms, choices.packet_loss_ratio)
            )
            target = follow(choices).copy()
            pairs, ue, place = pairs_of(choices, lately)
            free = (choices.tick >= until) & (choices.serving != NOBODY)
            free &= (choices.requested_downlink_mbps > 0) & (random.random(ues) < EXPLORE_SHARE)
            draw = np.where(place < AMONG, random.random(ue.size), -1.0)
            draw = np.where(pairs.serving > 0, 1.0 + random.random(ue.size), draw)
            # half of them stay where they are, so that this is learned as well as going
            draw = np.where((pairs.serving > 0) & (random.random(ue.size) < 0.5), 0.0, draw)
            order = np.lexsort((-draw, ue))
            first = order[np.r_[True, ue[order][1:] != ue[order][:-1]]] if ue.size else order
            first = first[free[ue[first]]]
            chosen = ue[first]
            until[chosen] = choices.tick + log.horizon_s
            target[choices.tick < until] = STAY
            target[chosen] = choices.cell[chosen, place[first]]
            taken = {name: getattr(pairs, name)[first] for name in vars(pairs)}
            log.rows.append(features(replace(pairs, **taken)))
            log.ue.append(chosen)
            log.tick.append(np.full(chosen.size, choices.tick))
            log.asked.append(
                (
                    choices.requested_downlink_mbps[chosen],
                    choices.requested_delay_ms[chosen],
                    choices.requested_loss_ratio[chosen],
                )
            )
            return target

        return policy

    return maker


@dataclass(frozen=True)
class Learned:
    """What exploring runs teach: how probably a request is met in a cell, and how its RSRP goes on."""

    selector: Selector
    forecast: Forecast


def learn(
    bases: Sequence[PolicyMaker],
    seeds: Sequence[int],
    params_of: Callable[[int], SimulatorParams],
    seconds: int,
    settings: Settings,
    runs: Callable[[], None] = lambda: None,
) -> Learned:
    """Both from the same exploring runs, the bases in turn."""
    rows, labels, run, matrices, changes = [], [], [], [], []
    wanted = rsrp_forecast.Settings()
    for number, seed in enumerate(seeds):
        log, reports = Log(), Reports(seed)
        base = reporting(bases[number % len(bases)], reports)
        closed_loop.run(exploring(base, log, seed), params_of(seed), seconds)
        matrix, met = log.learned()
        rows.append(matrix)
        labels.append(met)
        run.append(np.full(met.size, seed))
        seen, change = reports.learned(wanted.horizon_s)
        matrices.append(seen)
        changes.append(change)
        runs()
    selector = fit(
        np.concatenate(rows), np.concatenate(labels), np.concatenate(run), settings,
        seed=int(seeds[0]),
    )  # fmt: skip
    forecast = rsrp_forecast.fit(
        np.concatenate(matrices), np.concatenate(changes), wanted, seed=int(seeds[0])
    )
    return Learned(selector, forecast)


@dataclass(frozen=True)
class Rules:
    """How the selector's probabilities become handovers. margin: by which a cell's probability must be
    above the serving one's for the selector to want it; return_margin: the same for a cell left no more
    than RETURN_S ago; worse: by how much event A3's target may lie below the serving cell. fallback:
    hysteresis in dB and time to trigger in s of the A3 rule that decides where the selector wants
    nothing or is refused; with a forecast, expected_db is its hysteresis instead. confident:
    whether `models.gate` has to let it pass.
    """

    margin: float = 0.02
    return_margin: float = 0.1
    worse: float = 0.0
    fallback: tuple[float, int] = (1.0, 0)
    expected_db: float = 2.0
    confident: bool = False
    steady: gate.GateParams = gate.DEFAULTS


def selecting(
    selector: Selector,
    rules: Rules,
    reasons: Counter[str] | None = None,
    forecast: Forecast | None = None,
) -> PolicyMaker:
    """To the cell where the request is most probably met, by a margin; else by event A3, unless that
    promises less, or to swing back, and the UE is not about to lose its cell.

    forecast: what event A3 goes by, instead of the reports. reasons: counts who decided on each
    wish to hand over, and what the gate said.
    """
    told: Counter[str] = Counter() if reasons is None else reasons

    def maker(ues: int, cells: int) -> closed_loop.Policy:
        rule_of = closed_loop.a3(*rules.fallback)
        if forecast is not None:
            rule_of = forecasting(forecast, rules.expected_db)
        lately, follow = Lately(), rule_of(ues, cells)
        past = [gate.UeHistory()] * ues
        left_at = np.full((ues, cells), -RETURN_S - 1)
        every = np.arange(ues)

        def policy(choices: Choices) -> Ints:
            lately.see(choices)
            rule = follow(choices)
            pairs, ue, place = pairs_of(choices, lately)
            likely = np.full((ues, cells), -1.0)
            likely[ue, choices.cell[ue, place]] = selector.probability(features(pairs))
            served = choices.serving != NOBODY
            home = np.where(served, choices.serving, 0)
            here = likely[every, home]
            asked = np.where(
                choices.tick - left_at <= RETURN_S, rules.return_margin, rules.margin
            )  # fmt: skip
            gain = np.where(likely >= here[:, None] + asked, likely, -1.0)
            gain[every, home] = -1.0
            best = gain.argmax(axis=1)
            wants = served & (gain[every, best] >= 0.0)
            if rules.confident:
                for one in np.flatnonzero(wants):
                    passage = gate.passes(
                        past[one], choices.tick, str(home[one]), str(best[one]),
                        float(likely[one, best[one]]), required(int(choices.five_qi[one]), rules),
                        rules.steady,
                    )  # fmt: skip
                    told[passage.reason] += 1
                    wants[one] = passage.accepted
            follows = served & ~wants & (rule != STAY)
            there = likely[every, np.where(follows, rule, 0)]
            back = choices.tick - left_at[every, np.where(follows, rule, 0)] <= RETURN_S
            least = here + np.where(back, rules.return_margin, -rules.worse)
            lost = choices.sinr_db < LOST_DB
            follows &= (there >= least) | lost | rules.confident
            target = np.where(wants, best, np.where(follows, rule, STAY))
            told["by_selector"] += int(wants.sum())
            told["by_a3"] += int(follows.sum())
            moved = np.flatnonzero((target != STAY) & (target != choices.serving))
            left_at[moved, home[moved]] = choices.tick
            for one in moved:
                past[one] = gate.handed_over(past[one], choices.tick, str(home[one]))
            return target

        return policy

    return maker


def required(five_qi: int, rules: Rules) -> float:
    """The confidence that the gate asks for a 5QI."""
    priority = SERVICE_CLASSES[class_of_5qi(five_qi)].priority
    return gate.required_confidence(priority, rules.steady.floor)
