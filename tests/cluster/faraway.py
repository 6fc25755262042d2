"""An empty file system that says that it comes over the network: FUSE's protocol, as much as an
empty directory needs (fuse(4), Linux include/uapi/linux/fuse.h). Needs root and /dev/fuse.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import threading
from pathlib import Path

FORGETS = (2, 42)
"""What nobody waits for an answer to: FORGET, BATCH_FORGET."""
ATTRIBUTES = struct.pack(
    "<QII6Q10I", 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o700, 2, 0, 0, 0, 4096, 0
)
ANSWERS = {
    1: errno.ENOENT,  # LOOKUP
    3: ATTRIBUTES,  # GETATTR
    17: struct.pack("<5Q4I24x", 1 << 20, 1 << 19, 1 << 19, 99, 50, 4096, 255, 4096, 0),  # STATFS
    26: struct.pack("<4I2H2I2HI28x", 7, 31, 0, 0, 0, 0, 1 << 17, 1, 32, 0, 0),  # INIT
    27: struct.pack("<QII", 0, 0, 0),  # OPENDIR
    28: b"",  # READDIR
    29: b"",  # RELEASEDIR
}
HEADER = struct.Struct("<IIQQIIII")
REPLY = struct.Struct("<IiQ")
ROOM = 1 << 20


class FarAway:
    """Mounted from the beginning, as what `sshfs` mounts is; `close` takes it away."""

    def __init__(self, path: Path, kind: str = "fuse.sshfs") -> None:
        self.path = path
        self._device = os.open("/dev/fuse", os.O_RDWR)
        words = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        call = ctypes.CDLL(None, use_errno=True).mount
        if call(b"far:/away", os.fsencode(path), kind.encode(), 0, words.encode()):
            number = ctypes.get_errno()
            os.close(self._device)
            raise OSError(number, os.strerror(number))
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)
        self._server.join(5)
        os.close(self._device)

    def _serve(self) -> None:
        while True:
            try:
                asked = os.read(self._device, ROOM)
            except OSError:  # unmounted
                return
            _, operation, unique, _, _, _, _, _ = HEADER.unpack_from(asked)
            if operation in FORGETS:
                continue
            said = ANSWERS.get(operation, errno.ENOSYS)
            body, failed = (said, 0) if isinstance(said, bytes) else (b"", -said)
            os.write(self._device, REPLY.pack(REPLY.size + len(body), failed, unique) + body)
