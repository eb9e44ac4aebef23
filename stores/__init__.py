"""Engines: Feast plug-ins for offline and online stores.

May import feast, polars, duckdb, redis; nothing of ours.
"""
