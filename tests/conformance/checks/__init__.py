"""The checks: one module for each part of the interface, each with a table ``CHECKS`` from names to functions."""
