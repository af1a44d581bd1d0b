"""What is wrong with a policy that was handed in."""

import errno
import os

from imarium.errors import ImariumError

__all__ = ["PolicyBusy", "PolicyRefused"]


class PolicyRefused(ImariumError):
    """Rules that were not taken; ``number`` is the errno the kernel answers with, ``reason`` says what is wrong."""

    code = "policy_refused"
    exit_status = 3

    def __init__(self, reason: str, *, number: int = errno.EINVAL) -> None:
        self.number = number
        self.reason = reason
        super().__init__(f"policy refused: {reason} ({errno.errorcode.get(number, number)}: {os.strerror(number)})")


class PolicyBusy(ImariumError):
    """EBUSY: somebody else is writing the policy."""

    code = "policy_busy"
    number = errno.EBUSY

    def __init__(self) -> None:
        super().__init__("the policy is being written by another; try again when that is done")
