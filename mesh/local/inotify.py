"""Linux's allowance of inotify instances: one for each file that an Envoy watches, 128 a user by default."""

import ctypes
import os

SYSCTL = "fs.inotify.max_user_instances"


def allows(instances: int) -> bool:
    """Whether this user may have so many more now. They are given back at once."""
    inotify_init = ctypes.CDLL(None, use_errno=True).inotify_init1
    held: list[int] = []
    try:
        for _ in range(instances):
            if (descriptor := inotify_init(os.O_CLOEXEC)) < 0:
                return False
            held.append(descriptor)
    finally:
        for descriptor in held:
            os.close(descriptor)
    return True
