"""The attester: evidence from custody and a root of trust."""

from imarium.attester.evidence import LogView, make_evidence

__all__ = ["LogView", "make_evidence"]
