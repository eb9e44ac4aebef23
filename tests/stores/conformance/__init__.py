"""What any Feast store must hold: 39 cases, each against two obvious loops, for each harness.

A harness puts one store behind two verbs, `ask` (feature values as at an entity row's time) and `open`
(a FeatureStore over a world). `python -m tests.stores.conformance` writes who passes what.
"""
