"""The Feast objects, all of them: `feast apply` reads this file and no other of this folder.

Everything about a feature is derived from its view (`feature_repo/views/`); here only what Feast
wants to see gets its Feast form. A field that no window or function computes stops `feast apply`.
"""

from feature_repo.feast_objects import (
    check_computed,
    entity,
    feature_service,
    feature_view,
    on_demand_feature_view,
)
from feature_repo.services import SERVICES
from feature_repo.views import (
    CELL_HISTORY,
    CELL_LOAD,
    CELL_RADIO,
    QOS_CLASS,
    QOS_MARGIN,
    UE_CELL_LINK,
    UE_EVENT,
    UE_FLOW,
    UE_MOTION,
    UE_NEIGHBOUR,
    UE_RADIO,
)

ue = entity("ue", "ue_id", "a UE, by pseudonym (3GPP TS 23.003, 2.2A)")
cell = entity("cell", "cell_id", "a cell (3GPP TS 23.003, 19.6A)")
qos = entity("qos", "five_qi", "a 5QI; with a UE it names a flow (3GPP TS 23.501, 5.7.2.1)")

ue_radio = feature_view(UE_RADIO, ue)
ue_neighbour = feature_view(UE_NEIGHBOUR, ue)
ue_flow = feature_view(UE_FLOW, ue, qos)
ue_motion = feature_view(UE_MOTION, ue)
ue_event = feature_view(UE_EVENT, ue)
cell_radio = feature_view(CELL_RADIO, cell)
cell_load = feature_view(CELL_LOAD, cell)
cell_history = feature_view(CELL_HISTORY, cell)
ue_cell_link = feature_view(UE_CELL_LINK, ue, cell)
qos_class = feature_view(QOS_CLASS, qos)
qos_margin = on_demand_feature_view(QOS_MARGIN, (ue_flow,))

_views = {
    view.name: view
    for view in (
        ue_radio, ue_neighbour, ue_flow, ue_motion, ue_event, cell_radio, cell_load, cell_history,
        ue_cell_link, qos_class, qos_margin,
    )
}  # fmt: skip
qos_v1, cell_selection_v1 = (feature_service(service, _views) for service in SERVICES)

check_computed(_views.values())
