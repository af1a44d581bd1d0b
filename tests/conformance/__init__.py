"""Checks of the measurement list's file interface, the same on a kernel and on the engine.

Each check takes a :class:`~tests.conformance.bench.Bench` and returns what it observed, as JSON: it says nothing about what
is right. That is decided by comparing the results of two runs, one on the real kernel. Nothing but Python's own library is
used, so that the checks run inside a guest without delay.
"""
