"""Indices of measurement registers.

A PCR number is a type of its own, so that it cannot be taken for another technology's register index.
"""

from typing import NewType

__all__ = ["IMA_PCR", "LIST_PCRS", "PcrIndex"]

PcrIndex = NewType("PcrIndex", int)
"""The index of a TPM platform configuration register; also the register column of a measurement list."""

IMA_PCR = PcrIndex(10)
"""The register IMA extends unless a policy rule says otherwise (CONFIG_IMA_MEASURE_PCR_IDX)."""

LIST_PCRS = 64
"""How many register numbers a measurement list can use: the kernel's policy takes ``pcr=`` below 64."""
