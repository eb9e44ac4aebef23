"""SHOWING: network, stream and decision service together for a minute; imports every other room."""
