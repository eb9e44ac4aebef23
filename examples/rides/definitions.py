"""What is known of drivers: their trips of the last hour, and their ratings."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)

trips = FeatureView(
    name="trips",
    entities=[driver],
    ttl=timedelta(hours=2),
    schema=[
        Field(name="trip_count", dtype=Int64, description="trips that ended in the hour before"),
        Field(name="mean_km", dtype=Float64, description="mean length of a trip so far"),
    ],
    source=FileSource(
        name="trips_source",
        path="data/trips",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)

ratings = FeatureView(
    name="ratings",
    entities=[driver],
    ttl=timedelta(0),
    schema=[Field(name="rating", dtype=Float64, description="mean of all stars so far, 1 to 5")],
    source=FileSource(
        name="ratings_source",
        path="data/ratings.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)

dispatch = FeatureService(name="dispatch", features=[trips, ratings])
