"""Client of a NEF: QoS requirements and reports, collected durably. May import schemas.

    protection = Protection(pseudonym=..., scrub=...)
    with Intake(Path("nef.ndjson"), protection) as intake:
        with NEFQoSCollector(read_settings(), intake) as collector:
            collector.subscribe(AsSessionWithQoSSubscription.read({...}))
            collector.poll(["ue-1"])

and `callback_app(intake)` is the notification destination. A line of the journal has `sequence`,
`received_at` (UTC, ISO 8601), `kind` and what that kind says:

| kind | of |
|---|---|
| capture | `network`: a capture of it began |
| subscribed, unsubscribed | `subscription`, `ue_id`, `about` (qos or monitoring) |
| requirement | `payload.QosRequirement` and its `loss_ratio` |
| qos_report | `internal.SessionReport`, one an event report |
| ue_event | `internal.UeEvent`, its kind under `event` |
| ue_state | `ue_state.UeState` |
| camara_status | `session_id`, `status`, `reason`, `event_timestamp` |

`ue_id` is a pseudonym, null where nothing told it. Delivery is at least once: a NEF that got no
answer sends again. The quarantine's lines have `source`, `reasons` and the protected `text`.
"""
