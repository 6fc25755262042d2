"""What Patroni, etcd and HAProxy are told on a node, and where Patroni itself comes from.

Owns the variants that are compared, the texts of their files, and a virtual environment with
Patroni in it. The texts follow Patroni's own samples (postgres0.yml, extras/confd) and its page of
dynamic settings; what a sample leaves open is what pgherd does, so that both run the same
PostgreSQL. Leaves starting anything to `patroni`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from pgherd.postgres import settings as ours
from pgherd.proof import layout
from pgherd.proof.layout import Place, Secrets
from pgherd.proof.ports import Ports

RELEASE = "4.1.5"
PACKAGES = f"patroni[etcd3,psycopg3]=={RELEASE}"
SCOPE = "peers"
SAME = (
    *("wal_sender_timeout", "wal_receiver_timeout", "wal_receiver_status_interval"),
    *("wal_retrieve_retry_interval", "wal_keep_size", "max_slot_wal_keep_size"),
    *("archive_mode", "archive_command", "superuser_reserved_connections"),
    *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
    *("tcp_user_timeout", "password_encryption", "log_line_prefix"),
)
"""Parameters that pgherd sets and Patroni leaves to people: theirs get the same values."""


class Variant(msgspec.Struct, frozen=True):
    """One way to set Patroni and HAProxy up. dcs: of the dynamic settings · check: of HAProxy."""

    name: str
    dcs: dict[str, Any]
    check: str

    @property
    def synchronous(self) -> bool:
        """Whether a commit waits for a standby."""
        return bool(self.dcs.get("synchronous_mode"))


SHIPPED = {
    "ttl": 30,
    "loop_wait": 10,
    "retry_timeout": 10,
    "maximum_lag_on_failover": 1048576,
}
"""The values of the sample, which are the defaults too."""
FASTEST = {**SHIPPED, "ttl": 20, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0}
"""The least of each that Patroni accepts; 0: a crashed primary is left at once for another."""
SYNCHRONOUS = {"synchronous_mode": True}
CHECK = "inter 3s fall 3 rise 2"
CHECK_FAST = "inter 500ms fall 2 rise 1"

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("patroni", SHIPPED, CHECK),
        Variant("patroni-sync", {**SHIPPED, **SYNCHRONOUS}, CHECK),
        Variant("patroni-fast", FASTEST, CHECK_FAST),
        Variant("patroni-fast-sync", {**FASTEST, **SYNCHRONOUS}, CHECK_FAST),
    )
}


# --- ports ---------------------------------------------------------------------------------------


def etcd_port(ports: Ports) -> int:
    """Where etcd takes clients: the port that a listener for replicas has in a herd of ours."""
    return ports.proxy_replica


def stats_port(ports: Ports) -> int:
    """HAProxy's page about itself: behind the five that a node of ours has."""
    return ports.raft + 1


# --- texts ---------------------------------------------------------------------------------------


def patroni_yaml(
    place: Place, herd: list[Place], variant: Variant, secrets: Secrets, bin_dir: str
) -> dict[str, Any]:
    """patroni.yml as data."""
    rest = f"{place.host}:{place.ports.api}"
    server = f"{place.host}:{place.ports.postgres}"
    every = f"{place.host}/32"
    return {
        "scope": SCOPE,
        "name": place.name,
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": {"hosts": [f"{one.host}:{etcd_port(one.ports)}" for one in herd]},
        "bootstrap": {
            "dcs": {
                **variant.dcs,
                "postgresql": {"use_pg_rewind": True, "parameters": parameters(place)},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": server,
            "connect_address": server,
            "data_dir": str(place.data),
            "bin_dir": bin_dir,
            "pgpass": str(place.data.parent / "pgpass"),
            "authentication": {
                "superuser": {"username": "postgres", "password": secrets.superuser},
                "replication": {"username": "replicator", "password": secrets.replication},
                "rewind": {"username": "rewinder", "password": secrets.replication},
            },
            "pg_hba": [
                "local all all peer",
                f"host replication replicator {every} scram-sha-256",
                f"host all all {every} scram-sha-256",
            ],
            "parameters": {"unix_socket_directories": str(place.socket_directory)},
        },
    }


def parameters(place: Place) -> dict[str, str]:
    """Those of `SAME` with the values that a pgherd of this tree gives them."""
    settings = ours.ServerSettings(passfile="")
    where = ours.Place(str(place.data), place.ports.postgres, str(place.socket_directory))
    known = {**ours.defaults(settings), **ours.derive(settings, where)}
    return {name: known[name] for name in SAME}


def haproxy_cfg(place: Place, herd: list[Place], variant: Variant) -> str:
    """HAProxy as Patroni's template has it, for the primary."""
    servers = "\n".join(
        f"    server {one.name} {one.host}:{one.ports.postgres} maxconn 100"
        f" check port {one.ports.api}"
        for one in herd
    )
    return f"""global
    maxconn 100

defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen stats
    mode http
    bind {place.host}:{stats_port(place.ports)}
    stats enable
    stats uri /

listen primary
    bind {place.host}:{place.ports.proxy_primary}
    option httpchk HEAD /primary
    http-check expect status 200
    default-server {variant.check} on-marked-down shutdown-sessions
{servers}
"""


def etcd_words(place: Place, herd: list[Place]) -> list[str]:
    """etcd's command line, with its own defaults for all times."""
    peer = f"http://{place.host}:{place.ports.raft}"
    client = f"http://{place.host}:{etcd_port(place.ports)}"
    cluster = ",".join(f"{one.name}=http://{one.host}:{one.ports.raft}" for one in herd)
    return [
        program("etcd", "etcd-server"),
        f"--name={place.name}",
        f"--data-dir={place.data.parent / 'etcd'}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--initial-cluster={cluster}",
        "--initial-cluster-state=new",
        "--logger=zap",
    ]


# --- programs ------------------------------------------------------------------------------------


def program(name: str, package: str) -> str:
    """Where a program of the distribution is."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SystemExit(f"bench: no {name} here: apt-get install {package}")
    return found


def as_user(user: str) -> dict[str, Any]:
    """What makes a subprocess run as PostgreSQL's user when we are root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def installed(where: Path, user: str) -> Path:
    """Patroni in a virtual environment at this place, made when it is not there."""
    patroni = where / "bin" / "patroni"
    if _says(patroni, user) != f"patroni {RELEASE}":
        print(f"bench: installing {PACKAGES} into {where}", file=sys.stderr, flush=True)
        python = _python(user)
        subprocess.run([python, "-m", "venv", "--clear", where], check=True)
        words = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", PACKAGES]
        if subprocess.run([where / "bin" / "python", *words]).returncode:
            raise SystemExit("bench: pip could not install Patroni (see above): check the network")
    if _says(patroni, user) != f"patroni {RELEASE}":
        raise SystemExit(
            f"bench: the user {user} cannot run {patroni}:"
            " name a place that everybody may enter, as in --patroni /var/tmp/patroni"
        )
    return patroni


def _says(patroni: Path, user: str) -> str:
    try:
        done = subprocess.run(
            [patroni, "--version"], capture_output=True, text=True, cwd="/", **as_user(user)
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _python(user: str) -> str:
    """A Python that PostgreSQL's user may run; ours may lie where only root gets in."""
    test = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))"
    for one in ("/usr/bin/python3", getattr(sys, "_base_executable", sys.executable)):
        try:
            done = subprocess.run([one, "-c", test], capture_output=True, cwd="/", **as_user(user))
        except OSError:
            continue
        if done.returncode == 0:
            return one
    raise SystemExit(
        f"bench: no Python with venv that the user {user} may run:"
        " apt-get install python3 python3-venv"
    )


def postgres_user() -> str:
    """Who runs PostgreSQL, and Patroni therefore, and etcd and HAProxy with it."""
    return layout.postgres_user()
