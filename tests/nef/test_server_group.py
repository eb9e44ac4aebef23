"""Groups of UEs in subscriptions, and an alternative QoS that is in force."""

from dataclasses import replace

from nef.server import qos_session
from nef.simulator import services
from tests.nef.server_kit import MONITORING, QOS, nef_server, qos, sink, until
from tests.nef.test_server_rules import GOOD, asked, played


def test_a_group_hears_of_each_of_its_ues() -> None:
    with nef_server(speed=0) as server, sink() as out, sink() as places:
        server.pass_seconds(5)
        world = server.nef.world
        served = [ue for ue in world.scenario.ues if (world.samples[ue.supi].sinr_db or -99) > 5]
        one, two = served[:2]
        group = {"group_id": "fleet@example.com", "members": [one.supi, two.supi]}
        assert server.client.post("/api/v1/groups", json=group).status_code == 201
        body = qos(out.url, ueIpv4Addr=None, extGroupId="fleet@example.com")
        link = server.client.post(QOS, json=body).headers["location"]
        where = {"externalGroupId": "fleet@example.com", "notificationDestination": places.url,
                 "monitoringType": "LOCATION_REPORTING", "maximumNumberOfReports": 2,
                 "repPeriod": 1}  # fmt: skip
        watched = server.client.post(MONITORING, json=where)
        assert watched.status_code == 201, watched.text
        server.pass_seconds(3)
        until(lambda: out.events().count("QOS_MONITORING") == 6)
        assert {told["ueIpv4Addr"] for told in out.got} == {one.ipv4, two.ipv4}
        until(lambda: len(places.got) == 4)
        named = [told["monitoringEventReports"][0]["externalId"] for told in places.got]
        assert sorted(named) == sorted([one.external_id, two.external_id] * 2)
        assert [told.get("cancelInd") for told in places.got] == [None, None, None, True]
        assert server.client.get(MONITORING).json() == []
        double = server.client.post(QOS, json=qos(out.url, ueIpv4Addr=two.ipv4))
        assert double.status_code == 409
        assert server.client.delete(f"/api/v1/UEs/{two.supi}").status_code == 409
        assert server.client.delete(link).status_code == 204
        unknown = server.client.post(QOS, json=body | {"extGroupId": "nobody@example.com"})
        assert unknown.json()["cause"] == "GROUP_IDENTIFIER_NOT_FOUND"


BAD = replace(GOOD, downlink_delay_ms=150.0)


def test_the_level_in_force_follows_the_verdict_and_the_wanted_one_is_tried_again() -> None:
    subscription = asked(qosReference="82", altQoSReferences=["9"])
    targets, _ = qos_session.levels(subscription)
    progress, forced = qos_session.Progress(0), []
    for second in range(80):
        qos_session.reports(subscription, targets, progress, replace(BAD, second=second))
        forced.append(qos_session.in_force(progress, second))
    since = forced.index(1)
    assert forced[since : since + 70] == ([1] * 30 + [0] * 5) * 2
    assert played(subscription, [BAD] * 8)[-1][1]["appliedQosRef"] == "9"


def test_an_alternative_changes_how_the_flow_is_scheduled() -> None:
    """No network keeps 1 ms: what is in force, and by what the flow is scheduled, is 5QI 10."""
    with nef_server(speed=0) as server, sink() as out:
        world = server.nef.world
        server.pass_seconds(3)
        supi = max(world.samples, key=lambda one: world.samples[one].sinr_db or -99.0)
        address = next(ue.ipv4 for ue in world.scenario.ues if ue.supi == supi)
        wanted = {"qosReference": "82", "tscQosReq": {"req5Gsdelay": 1}, "altQoSReferences": ["10"]}
        events = {"ueIpv4Addr": address, "events": ["QOS_NOT_GUARANTEED"], "qosMonInfo": None}
        made = server.client.post(QOS, json=qos(out.url) | wanted | events)
        assert made.status_code == 201, made.text
        assert world.overrides[supi] == 82
        scheduled = []
        for _ in range(20):
            server.pass_seconds()
            scheduled.append(world.overrides[supi])
        until(lambda: out.got)
        assert out.got[0]["eventReports"][0]["appliedQosRef"] == "10"
        assert scheduled[0] == 82 and 10 in scheduled
        profile = services.PROFILES[world.profile[world.index[supi]]]
        assert profile.five_qi == scheduled[-1]
        assert server.client.delete(made.headers["location"]).status_code == 204
        assert supi not in world.overrides
