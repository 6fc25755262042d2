"""Run one unit as systemd would, as far as its lines are about processes: `... UNIT` as root.

A program of its own, for a test root: it becomes the unit's user with the unit's capabilities,
limits and environment, hears the service by sd_notify(3) and prints each line that it gets. TERM
stops it as KillMode=mixed says, HUP reloads. Its last line is `exit CODE`. Standard library only;
what it does not know of a unit (file systems, system calls) it leaves out.
"""

import configparser
import os
import pwd
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import time

ADDRESS = "/run/notify"


def main(unit: str) -> int:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(unit)
    service = dict(parser["Service"])
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    user = pwd.getpwnam(service["User"])
    runtime = os.path.join("/run", service["RuntimeDirectory"])
    os.makedirs(runtime, mode=int(service["RuntimeDirectoryMode"], 8), exist_ok=True)
    os.chown(runtime, user.pw_uid, user.pw_gid)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(ADDRESS)
    os.chmod(ADDRESS, 0o777)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    main_process = start(service, user)
    print(f"main {main_process.pid}", flush=True)
    kill_at = float("inf")
    while main_process.poll() is None and time.monotonic() < kill_at:
        ready, _, _ = select.select([manager, wake], [], [], 1.0)
        if manager in ready:
            for line in manager.recv(4096).decode().splitlines():
                print(line, flush=True)
        for number in os.read(wake, 64) if wake in ready else b"":
            if number == signal.SIGTERM:
                kill_at = time.monotonic() + int(service["TimeoutStopSec"])
            if number in (signal.SIGTERM, signal.SIGHUP):
                main_process.send_signal(number)
    code = main_process.poll()
    if code is None:
        main_process.kill()
    print(f"exit {'timeout' if code is None else code}", flush=True)
    return 0


def start(service, user):
    """The main process, with what the unit gives it."""
    names = [word.removeprefix("CAP_").lower() for word in service["AmbientCapabilities"].split()]
    added = ",".join(f"+{name}" for name in names)
    become = [
        *("setpriv", "--reuid", user.pw_name, "--regid", service["Group"], "--init-groups"),
        *("--inh-caps", f"-all,{added}", "--ambient-caps", f"-all,{added}"),
        *("--bounding-set", f"-all,{added}"),
        *(["--no-new-privs"] if service["NoNewPrivileges"] == "yes" else []),
    ]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = min(int(service["LimitNOFILE"]), most if most > 0 else sys.maxsize)
    limits = ["prlimit", f"--nofile={files}", "--"]  # no more than a root without all rights may
    name, _, value = service["Environment"].partition("=")
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "USER": user.pw_name,
        "HOME": user.pw_dir,
        "NOTIFY_SOCKET": ADDRESS,
        name: value,
    }
    command = [*limits, *become, "--", *shlex.split(service["ExecStart"])]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=service["WorkingDirectory"],
        umask=int(service["UMask"], 8),
        stderr=open("/tmp/pgherd.log", "ab"),
        start_new_session=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
