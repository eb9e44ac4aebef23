"""Rows on their way: the entries of a Redis stream, who writes and who reads them.

May import redis, orjson, schemas.
"""
