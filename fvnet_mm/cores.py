"""How many processors there are to share work among."""

import os


def usable_cores() -> int:
    """CPU cores that this process may run on; all of the machine's where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
