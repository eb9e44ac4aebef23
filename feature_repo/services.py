"""Which features a model sees, in which order. A changed meaning is a new service, never an edit."""

from dataclasses import dataclass

from feature_repo.views import VIEWS
from feature_repo.windows import AnyView, Feature


@dataclass(frozen=True)
class Service:
    """A named, ordered set of whole views; `radio_views` are those that need no traffic at all."""

    name: str
    description: str
    views: tuple[str, ...]
    radio_views: tuple[str, ...] = ()

    def members(self) -> tuple[AnyView, ...]:
        """The views in the service's order."""
        by_name = {view.name: view for view in VIEWS}
        return tuple(by_name[name] for name in self.views)

    def features(self) -> tuple[Feature, ...]:
        """Every feature, in the order that a model sees them."""
        return tuple(feature for view in self.members() for feature in view.features())


_RADIO = ("ue_radio", "ue_neighbour", "ue_motion", "ue_event", "cell_radio")

SERVICES = (
    Service(
        name="qos_v1",
        description="will this request of this UE be met in its serving cell",
        views=(
            *_RADIO, "ue_flow", "cell_load", "cell_history", "qos_class", "qos_margin",
        ),
        radio_views=_RADIO,
    ),
    Service(
        name="cell_selection_v1",
        description="what a UE could expect of one candidate cell",
        views=("ue_cell_link", "cell_radio", "cell_load", "cell_history", "qos_class"),
    ),
)  # fmt: skip
