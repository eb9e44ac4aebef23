"""Training rows: what was known of each driver when a ride was asked for."""

from datetime import UTC, datetime, timedelta

import pandas as pd
from feast import FeatureStore

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def main() -> None:
    """Prints the rows that were asked for, in their order, with their features."""
    asked = pd.DataFrame(
        {
            "driver_id": [7, 8, 7, 99],
            "event_timestamp": [NOON + timedelta(hours=hour) for hour in range(4)],
            "accepted": [1, 0, 1, 0],
        }
    )
    store = FeatureStore(repo_path=".")
    rows = store.get_historical_features(asked, store.get_feature_service("dispatch")).to_df()
    print(rows.drop(columns="event_timestamp").round(2).to_string(index=False))


if __name__ == "__main__":
    main()
