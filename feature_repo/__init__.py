"""Meanings: entities, QoS feature views and services, the single source of truth.

May import schemas; feast in two files.
"""
