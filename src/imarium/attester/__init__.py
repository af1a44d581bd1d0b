"""The attester: evidence from custody and a root of trust."""

from imarium.attester.evidence import IndexedView, LogView, make_evidence

__all__ = ["IndexedView", "LogView", "make_evidence"]
