"""Answering: HTTP services over the online features and the model. May import every room but pipelines."""
