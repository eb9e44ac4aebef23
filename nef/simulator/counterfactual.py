"""What each candidate cell would have given a UE, at a decision time, from the same draws.

For every decision and candidate the UE's whole network is run on beside the real one with that UE
alone sent elsewhere: the others' traffic, the air and all draws are the same, and what follows from
the choice (load, interference, others' shares and moves) follows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from nef.simulator import campaign, chance, handover, network, tables, trace
from schemas.errors import QosError

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SCHEMA = {
    "ue_id": pl.String, "session_id": pl.String, "event_timestamp": pl.Datetime("us", "UTC"),
    "cell_id": pl.String, "rank": pl.Int64, "rsrp_dbm": pl.Float64, "serving": pl.Boolean,
    "chosen": pl.Boolean, "seconds": pl.Int64, "downlink_mbps": pl.Float64,
    "downlink_delay_ms": pl.Float64, "packet_loss_ratio": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Decisions:
    """Who decides after which second: (decisions,) each."""

    tick: Ints
    session: Ints


def at_requests(stage: campaign.World) -> Decisions:
    """A decision at each request: after the second in which it was made."""
    return Decisions(stage.asked.tick, stage.asked.session)


def outcomes(
    stage: campaign.World,
    decisions: Decisions,
    candidates: int = 4,
    horizon_s: int = 10,
    hold: bool = True,
) -> pl.DataFrame:
    """A row for each decision and candidate: means over the horizon's seconds after the decision.

    Candidates are the serving and the chosen cell, then those measured strongest, `candidates` in all
    (rank: their order). serving: it served in the decision's second; chosen: it serves in the next one
    in the real run. hold: the handover rule leaves the UE alone during the horizon; else it goes on as
    usual, and the chosen candidate gives exactly what was given. event_timestamp is that of the
    second's row. seconds: those of the horizon in which the session went on. A decision of a UE that
    has no cell, loses it in that very second, or ends with it, has no rows. Raises QosError for less
    than 2 candidates or 1 second.
    """
    for name, value, low in (("candidates", candidates, 2), ("horizon_s", horizon_s, 1)):
        if value < low:
            raise QosError(f"counterfactual.{name}: {value}, must be at least {low}")
    rule = handover.A3.fresh(
        stage.sessions.wave.size, stage.topology.cells, stage.params.hysteresis_db,
        stage.params.time_to_trigger_s,
    )  # fmt: skip
    beside = _Beside(stage, decisions, candidates, horizon_s, hold, rule)
    campaign.play(stage, trace.following(rule), beside.watch)
    return beside.frame()


class _Beside:
    """Runs beside the real network: a copy of a UE's wave for each decision and candidate."""

    def __init__(
        self,
        stage: campaign.World,
        decisions: Decisions,
        candidates: int,
        horizon_s: int,
        hold: bool,
        rule: handover.A3,
    ) -> None:
        self._stage, self._candidates, self._horizon, self._hold = (
            stage,
            candidates,
            horizon_s,
            hold,
        )
        order = np.argsort(decisions.tick, kind="stable")
        self._tick, self._session = decisions.tick[order], decisions.session[order]
        self._random = np.random.default_rng(stage.params.seed)
        self._members = [
            np.flatnonzero(stage.sessions.wave == wave)
            for wave in range(stage.background.demand.shape[1])
        ]
        self._senders = network.Senders.of(stage.sessions.wave, stage.sessions.profile)
        self._running: list[_Copies] = []
        self._rule = rule
        self._done: list[dict[str, object]] = []

    def watch(
        self, seen: trace.Seen, state: network.State, targets: Ints, draws: chance.Drawn
    ) -> None:
        """One real second has been: the same second for all copies, then this second's decisions."""
        tick, now, given = seen.tick, seen.now, seen.given
        again = draws.again(self._random.random(state.rate.size))
        for copies in self._running:
            copies.step(tick, now, again, self._stage, self._hold)
        for copies in [one for one in self._running if tick == one.tick + self._horizon]:
            self._done.append(copies.result(self._stage))
            self._running.remove(copies)
        low, high = np.searchsorted(self._tick, [tick, tick + 1])
        who = self._session[low:high]
        fails = (given.sinr_db < handover.OUT_OF_SYNC_DB) & (
            state.attached.weak + 1 >= handover.FAILURE_AFTER
        )
        who = who[(state.attached.serving[who] != handover.NOBODY) & ~fails[who]]
        if who.size:
            self._running.append(self._begin(who, seen, state, targets, again))

    def _begin(
        self, who: Ints, seen: trace.Seen, state: network.State, targets: Ints,
        again: chance.Again,
    ) -> "_Copies":  # fmt: skip
        tick, now, given, rule = seen.tick, seen.now, seen.given, self._rule
        serving = state.attached.serving[who]
        chosen = np.where(targets[who] == handover.STAY, serving, targets[who])
        measured = now.measured_dbm[who].copy()
        every = np.arange(who.size)
        measured[every, serving] = np.inf
        measured[every, chosen] = np.inf
        order = np.argsort(-measured, axis=1, kind="stable")[:, : self._candidates]
        level = np.take_along_axis(now.measured_dbm[who], order, axis=1)
        wanted = np.take_along_axis(measured, order, axis=1) >= handover.DETECTABLE_DBM
        decision, rank = np.nonzero(wanted)
        cell = order[decision, rank]
        waves = self._stage.sessions.wave[who[decision]]
        members = [self._members[wave] for wave in waves]
        sizes = np.array([part.size for part in members])
        rows, copy = np.concatenate(members), np.repeat(np.arange(len(members)), sizes)
        mine = np.flatnonzero(rows == np.repeat(who[decision], sizes))
        copies = _Copies(
            tick=tick, rows=rows, copy=copy, waves=waves, mine=mine,
            state=state.take(rows, waves),
            senders=self._senders.take(rows, copy),
            rule=rule.take(rows),
            told=_Told(who[decision], cell, rank, level[decision, rank],
                       cell == serving[decision], cell == chosen[decision]),
            sums=np.zeros((3, len(members))), seconds=np.zeros(len(members), dtype=np.int64),
        )  # fmt: skip
        wishes = targets[rows]
        wishes[mine] = cell
        copies.move(tick, wishes, given.sinr_db[rows], again.take(rows).accesses())
        return copies

    def frame(self) -> pl.DataFrame:
        """All rows in order of decision time, UE and rank."""
        self._done += [copies.result(self._stage) for copies in self._running]
        self._running = []
        rows = pl.concat(
            [pl.DataFrame(schema=SCHEMA), *(pl.DataFrame(one).cast(SCHEMA) for one in self._done)]  # type: ignore[arg-type]
        )
        return rows.sort("event_timestamp", "ue_id", "rank")


@dataclass(frozen=True)
class _Told:
    """Of each copy: whose decision it is, for which cell."""

    session: Ints
    cell: Ints
    rank: Ints
    rsrp_dbm: Array
    serving: Bools
    chosen: Bools


@dataclass
class _Copies:
    """Networks of one decision time. rows: (members,) sessions; copy: which network each is in; mine:
    (copies,) the row that was sent elsewhere; waves: (copies,) the real network.
    """

    tick: int
    rows: Ints
    copy: Ints
    waves: Ints
    mine: Ints
    state: network.State
    senders: network.Senders
    rule: handover.A3
    told: _Told
    sums: Array
    seconds: Ints

    def step(
        self, tick: int, now: network.Now, again: chance.Again, stage: campaign.World, hold: bool
    ) -> None:
        """The real second's circumstances and draws, for all copies."""
        here, draws = now.take(self.rows, self.waves), again.take(self.rows)
        sessions, attached = stage.sessions, self.state.attached
        first, last = sessions.first[self.rows], sessions.last[self.rows]
        begins, active = first == tick, (first <= tick) & (tick < last)
        handover.attach(attached, tick, here.measured_dbm, begins, last == tick)
        given = network.second(
            self.state, self.senders, here, begins, active, stage.air.prbs, stage.params, draws
        )
        lives = active[self.mine]
        for number, name in enumerate(("downlink_mbps", "downlink_delay_ms", "loss")):
            self.sums[number] += np.where(lives, getattr(given, name)[self.mine], 0.0)
        self.seconds += lives
        attached.serving[last == tick + 1] = handover.NOBODY
        targets = self.rule.targets(attached.serving, here.measured_dbm)
        if hold:
            targets[self.mine] = handover.STAY
        self.move(tick, targets, given.sinr_db, draws.accesses())

    def move(self, tick: int, targets: Ints, sinr_db: Array, accesses: chance.Accesses) -> None:
        """Hands over in all copies."""
        handover.move(self.state.attached, tick, targets, sinr_db, accesses)

    def result(self, stage: campaign.World) -> dict[str, object]:
        """Columns of SCHEMA."""
        names, told = stage.names, self.told
        start = names.wave_us[self.waves] + names.phase_us[told.session]
        mean = np.where(self.seconds > 0, self.sums / np.maximum(self.seconds, 1), np.nan)
        kept = self.seconds > 0
        columns = {
            "ue_id": names.ue_id[told.session],
            "session_id": names.session_id[told.session],
            "event_timestamp": start + self.tick * tables.SECOND_US,
            "cell_id": np.array(stage.topology.cell_ids)[told.cell],
            "rank": told.rank,
            "rsrp_dbm": told.rsrp_dbm,
            "serving": told.serving,
            "chosen": told.chosen,
            "seconds": self.seconds,
            "downlink_mbps": mean[0],
            "downlink_delay_ms": mean[1],
            "packet_loss_ratio": mean[2],
        }
        return {name: values[kept] for name, values in columns.items()}
