"""The declared views, one file each; VIEWS lists them in the order of the catalog."""

from feature_repo.views.cell_history import CELL_HISTORY
from feature_repo.views.cell_load import CELL_LOAD
from feature_repo.views.cell_radio import CELL_RADIO
from feature_repo.views.qos_class import QOS_CLASS
from feature_repo.views.qos_margin import QOS_MARGIN
from feature_repo.views.ue_cell_link import UE_CELL_LINK
from feature_repo.views.ue_event import UE_EVENT
from feature_repo.views.ue_flow import UE_FLOW
from feature_repo.views.ue_motion import UE_MOTION
from feature_repo.views.ue_neighbour import UE_NEIGHBOUR
from feature_repo.views.ue_radio import UE_RADIO
from feature_repo.windows import AnyView, StaticView, View

__all__ = [
    "CELL_HISTORY",
    "CELL_LOAD",
    "CELL_RADIO",
    "QOS_CLASS",
    "QOS_MARGIN",
    "STATIC",
    "STORED",
    "UE_CELL_LINK",
    "UE_EVENT",
    "UE_FLOW",
    "UE_MOTION",
    "UE_NEIGHBOUR",
    "UE_RADIO",
    "VIEWS",
    "WINDOWED",
]

WINDOWED: tuple[View, ...] = (
    UE_RADIO,
    UE_NEIGHBOUR,
    UE_FLOW,
    UE_MOTION,
    UE_EVENT,
    CELL_RADIO,
    CELL_LOAD,
    CELL_HISTORY,
    UE_CELL_LINK,
)
STATIC: tuple[StaticView, ...] = (QOS_CLASS,)
STORED: tuple[View | StaticView, ...] = (*WINDOWED, *STATIC)
VIEWS: tuple[AnyView, ...] = (*STORED, QOS_MARGIN)
