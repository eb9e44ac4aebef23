"""A NEF that stands in for a real one: 3GPP's northbound APIs over a simulated network.

`python -m nef.server --help`. May import schemas and nef's other packages.
"""
