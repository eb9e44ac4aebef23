"""Promises: columns with unit, range and source, table contracts, the 5QI table.

May import polars, dataframely, pydantic.
"""
