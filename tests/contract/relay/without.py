"""A proxy process that lacks something: `python without.py extension|io_uring PROXY'S OPTIONS`.

extension  as where it was not built: the import fails
io_uring   as in a sandbox: a seccomp filter answers io_uring_setup with EPERM, for this process
"""

from __future__ import annotations

import ctypes
import runpy
import struct
import sys

IO_URING_SETUP = 425
"""The same number on all machines."""

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # with EPERM


def forbid_io_uring() -> None:
    """For this process from now on; nobody needs to be root for it."""
    steps = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, IO_URING_SETUP), (RETURN, 0, 0, REFUSE)]
    steps.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HL", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0
    assert libc.syscall(IO_URING_SETUP, 1, None) == -1
    assert ctypes.get_errno() == 1


if __name__ == "__main__":
    missing = sys.argv.pop(1)
    if missing == "extension":
        sys.modules["pgherd.relay._pump"] = None  # type: ignore[assignment]
    else:
        forbid_io_uring()
    runpy.run_module("pgherd.relay.main", run_name="__main__", alter_sys=True)
