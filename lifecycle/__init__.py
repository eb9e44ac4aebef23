"""Keeping: registry, bundles and experiments. May import schemas, models, feature_repo."""
