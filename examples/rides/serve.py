"""The latest features of some drivers, as a service reads them; None where nothing is known."""

from feast import FeatureStore


def main() -> None:
    """Prints each feature for three drivers."""
    store = FeatureStore(repo_path=".")
    drivers = [{"driver_id": driver} for driver in (7, 8, 99)]
    answer = store.get_online_features(store.get_feature_service("dispatch"), drivers).to_dict()
    for name, values in sorted(answer.items()):
        print(name, [round(v, 2) if isinstance(v, float) else v for v in values])


if __name__ == "__main__":
    main()
