"""Checks of the measurement list's file interface, the same on a kernel and on the engine.

Each check takes a :class:`~tests.conformance.bench.Bench` and returns what it observed, as JSON. It does not say what
is right: that is decided by comparing the results of two runs, one of them on the real kernel. The checks need nothing
but Python's own library, so that they run inside a guest without delay.
"""
