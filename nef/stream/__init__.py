"""Rows on their way: the entries of the Redis stream and who writes them. Imports redis and orjson."""
