"""Answering: HTTP services. May import every room but pipelines."""
