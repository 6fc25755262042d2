"""A support bundle has what helps and no secret: each kind of secret is planted, and all of the
bundle is searched for it."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from pgherd.cli.redacting import Sieve
from pgherd.cli.reporting import PARTS, README, lines_of, write
from pgherd.model.errors import BugError, OperatorError
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LogTold

WORD = "hunter2-Zz9"
PEM = (
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIHunterTwo\nAwEHoUQDQgAE\n-----END EC PRIVATE KEY-----"
)

IN_TEXT = (
    f"connection: host=db user=app password={WORD} dbname=x",
    f"connection: host=db password='{WORD} with blanks' dbname=x",
    f"postgresql://app:{WORD}@db:5432/app?sslmode=require",
    f"ALTER ROLE app PASSWORD '{WORD}'",
    f"CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'x', password '{WORD}')",
    f"Authorization: Bearer {WORD}aaaaaaaa",
    f"authorization: Basic {base64.b64encode(WORD.encode()).decode()}",
    f'{{"api_key": "{WORD}", "n": 1}}',
    f"API_TOKEN={WORD} ./run",
    f"aws_secret_access_key = {WORD}",
    f"SECRET: {WORD}",
    f"https://hooks.example/notify?token={WORD}&a=1",
    f"restore --passphrase={WORD} --verbose",
    f"pgherd_{WORD}abcdefgh was refused",
    f"join with pgherd1.{WORD}abcdefgh=",
    f"SCRAM-SHA-256$4096:{WORD}$abc:def",
    f"eyJhbGciOiJIUzI1NiJ9.{WORD}.sig",
    f"PGPASSWORD={WORD} psql",
)
"""Lines as they stand in logs, statements and settings."""

IN_VALUES = (
    {"superuser": {"password": WORD}},
    {"replication": {"password": 20001234567}},
    {"api": {"tokens": [{"name": "ci", "sha256": WORD}]}},
    {"hooks": {"webhook": {"url": f"https://x.example/{WORD}", "headers": {"X-Auth": WORD}}}},
    {"failover": {"fence": {"command": ["ipmitool", "-P", WORD]}}},
    {"parameters": {"archive_command": f"ship -k {WORD} %p"}},
    {"parameters": {"primary_conninfo": f"host=a {WORD}"}},
    {"parameters": {"ssl_passphrase_command": WORD}},
    {"env": {"LDAP": WORD}},
    {"environment": [f"A={WORD}"]},
    {"deep": [{"list": [{"client_secret": {"of": WORD}}]}]},
)
"""Values that their keys tell."""


@pytest.mark.parametrize("line", IN_TEXT)
def test_secrets_in_text_are_taken_out_by_their_form(line: str) -> None:
    shown = Sieve(()).text(f"before\n{line}\nafter")
    assert WORD not in shown
    assert base64.b64encode(WORD.encode()).decode() not in shown
    assert shown.startswith("before\n")
    assert shown.endswith("\nafter")
    assert WORD not in json.dumps(Sieve(()).value({"line": line}))


@pytest.mark.parametrize("value", IN_VALUES, ids=lambda value: next(iter(value)))
def test_secrets_in_values_are_taken_out_by_their_key(value: dict[str, object]) -> None:
    shown = json.dumps(Sieve(()).value(value))
    assert WORD not in shown
    assert "20001234567" not in shown


def test_private_keys_are_taken_out_also_over_lines() -> None:
    shown = Sieve(()).text(f"a\n{PEM}\nb")
    assert shown.split("\n") == ["a", "(hidden)", "b"]


@pytest.mark.parametrize("secret", ["plain-Word-1", 'w\'ith "quotes" & ü', "per%cent/slash+"])
def test_a_secret_that_is_known_is_found_wherever_it_stands(secret: str) -> None:
    """As it is, in a URL, in JSON, in SQL, in base64; with nothing around that would tell."""
    sieve = Sieve([secret])
    ways = [
        secret,
        quote(secret, safe=""),
        json.dumps(secret),
        secret.replace("'", "''"),
        base64.b64encode(secret.encode()).decode(),
    ]
    for way in ways:
        assert sieve.leaks(f"lines {way} more".encode())
        assert not sieve.leaks(sieve.text(f"lines {way} more").encode())


@pytest.mark.parametrize("secret", ["pa'ss w\\rd/1,2)&x", "ünter+den=Linden", 'it\'s "so"'])
@pytest.mark.parametrize(
    "way",
    [
        lambda word: word.replace("\\", "\\\\").replace("'", "\\'"),
        lambda word: json.dumps({"text": word.replace("\\", "\\\\").replace("'", "\\'")}),
        lambda word: re.sub("%..", lambda found: found[0].lower(), quote(word)),
        lambda word: quote_plus(word),
        lambda word: "".join(one if one.isalnum() else f"\\u{ord(one):04X}" for one in word),
        lambda word: base64.b64encode(f"app:{word}".encode()).decode(),
        lambda word: base64.b64encode(f"ab:{word}:c".encode()).decode(),
        lambda word: base64.urlsafe_b64encode(f"a:{word}\n".encode()).decode(),
    ],
)
def test_a_known_secret_is_found_in_other_writing(secret: str, way: Callable[[str], str]) -> None:
    """As libpq, URLs, JSON within JSON and headers have it; and then it is gone."""
    sieve, text = Sieve([secret]), f"before {way(secret)} after"
    assert sieve.leaks(text.encode())
    shown = sieve.by_value(text)
    assert not sieve.leaks(shown.encode())
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@pytest.mark.parametrize(
    "line",
    [
        r"connection: host=db password='it\'s the tail that leaks' dbname=x",
        json.dumps({"msg": r"host=db password='it\'s the tail that leaks' dbname=x"}),
        json.dumps({"msg": r"host=db password=it\'sthe_tail_that_leaks dbname=x"}),
        r"connection: host=db password=ab,c;d)e&the_tail_that_leaks dbname=x",
        "postgresql://app:pa@ss/the_tail_that_leaks@db:5432/app",
        "redis://:the_tail_that_leaks@cache:6379/0",
        r'{"msg": "password=\"the_tail_that_leaks\""}',
    ],
)
def test_no_tail_of_a_secret_is_left(line: str) -> None:
    """Where a form ends is where the secret does: as libpq and URLs read it."""
    shown = Sieve(()).text(line)
    assert "tail" not in shown, shown
    assert "leaks" not in shown, shown


def test_programs_are_taken_out_however_they_are_written() -> None:
    """With what they are given; how a crash is answered is no program."""
    value = {
        "hooks": {
            "on_role_change": f"/usr/local/bin/told -k {WORD}",
            "pre_promote": ["/bin/ask", WORD],
            "on_start": {"command": ["/bin/x", WORD], "deadline": "3s"},
        },
        "failover": {"fence": f"/sbin/fence {WORD}", "on_postgres_crash": "auto"},
    }
    shown = Sieve(()).value(value)
    assert WORD not in json.dumps(shown)
    assert shown["failover"]["on_postgres_crash"] == "auto"
    assert shown["hooks"]["on_start"]["deadline"] == "3s"


def test_a_common_word_as_a_password_stops_no_bundle(tmp_path: Path) -> None:
    """It is in our own text, or as a number among figures: hidden there too, and written."""
    sieve = Sieve(["passwords", "16777216", "hidden"])
    shown = sieve.value({"max_lag_bytes": 16777216, "is_on": True, "n": 12})
    assert shown == {"max_lag_bytes": "(hidden)", "is_on": True, "n": 12}
    text = json.dumps(shown) + sieve.by_value(README)
    write(tmp_path / "b.tar.gz", {"x.json": text.encode()}, sieve)
    assert (tmp_path / "b.tar.gz").exists()


def test_passwords_in_a_passfile_are_known_as_they_are(tmp_path: Path) -> None:
    """It escapes colons and backslashes."""
    file = tmp_path / "passfile"
    file.write_text(
        "# ours\n*:5432:*:pgherd_replication:wo\\:rd\\\\1\n10.0.0.1:1:x:y:second-word\n"
    )
    words = set(lines_of(file))
    assert {"second-word"} <= words
    assert "wo:rd\\1" in words


def test_a_bundle_that_could_not_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the next try has the name again."""
    path = tmp_path / "b.tar.gz"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OperatorError, match="No space left"):
        write(path, {"x.txt": b"x"}, Sieve(()))
    assert not path.exists()
    path.write_bytes(b"somebody else's")
    with pytest.raises(OperatorError, match="is there already"):
        write(path, {"x.txt": b"x"}, Sieve(()))
    assert path.read_bytes() == b"somebody else's"


def test_what_helps_stays() -> None:
    value = {
        "password": "file:/etc/pgherd/superuser",
        "other": {"password": "env:PG_SECRET"},
        "password_encryption": "scram-sha-256",
        "host": "10.0.0.1",
        "lag_bytes": 12,
        "text": "n2.ce3208@1 streams; work_mem = 64MB; archive_mode is on",
        "none": None,
    }
    assert Sieve(("irrelevant-word",)).value(value) == value


def test_a_bundle_with_a_known_secret_left_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BugError, match=r"x\.txt"):
        write(tmp_path / "b.tar.gz", {"x.txt": b"the secret-word-1"}, Sieve(["secret-word-1"]))
    assert not list(tmp_path.iterdir())


CONFIG = """
version: 1
# a comment with {word}comment
node: {{name: n1, address: 127.0.0.1}}
api: {{tokens: [{{name: ci, role: admin, sha256: "{digest}"}}]}}
postgresql:
  data_dir: {folder}/data
  parameters: {{archive_command: "ship --key {word}archive %p", work_mem: 77MB}}
  superuser: {{password: "{word}literal"}}
  replication: {{password: "file:{folder}/replication"}}
  rewind: {{password: "env:REWIND_WORD"}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's configuration with a secret of each kind around it."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin.token").write_text(f"{WORD}admin\n")
    (tmp_path / "replication").write_text(f"{WORD}file\n")
    monkeypatch.setenv("REWIND_WORD", f"{WORD}env")
    monkeypatch.setenv("UNRELATED", f"{WORD}unrelated")
    file = tmp_path / "pgherd.yaml"
    file.write_text(CONFIG.format(word=WORD, folder=tmp_path, digest="ab" * 32))
    file.chmod(0o600)
    return file


def contents(path: Path) -> dict[str, bytes]:
    """All files of a bundle, with whatever else stands in the archive."""
    with tarfile.open(path) as bundle:
        return {
            entry.name.partition("/")[2]: bundle.extractfile(entry).read()  # type: ignore[union-attr] # files only
            for entry in bundle.getmembers()
        }


def test_a_bundle_has_every_part_and_no_secret_of_any_kind(
    herd, served, pgherd, config, tmp_path, monkeypatch
) -> None:
    """Of a cluster whose daemons answer, with secrets in logs, files and the environment."""
    lines = [*IN_TEXT, *PEM.split("\n"), f"bare {WORD}file", f"bare {WORD}admin", f"{WORD}env x"]
    herd.own.log = LogTold((*lines, f"bare {WORD}literal", "a plain line"), "1:1")
    port = served.port
    config.write_text(config.read_text().replace("api: {", f"api: {{port: {port}, "))
    monkeypatch.setenv("PGHERD_TOKEN", f"{WORD}admin")
    out = tmp_path / "bundle.tar.gz"
    done = pgherd("report", "--config", config, "--out", out)
    assert done.code == 0, done.err
    found = contents(out)
    assert set(PARTS) <= set(found), found["missing.txt"]
    assert {"versions.json", "configuration.yaml", "nodes/n2/agent.log"} <= set(found)
    assert {"nodes/n3/postgresql.log", "nodes/n1/checkup.json", "README.txt"} <= set(found)
    with tarfile.open(out) as bundle:
        raw = b"".join(bundle.extractfile(one).read() for one in bundle.getmembers())  # type: ignore[union-attr] # files only
        names = " ".join(bundle.getnames())
    assert WORD.encode() not in raw
    assert base64.b64encode(WORD.encode())[:-2] not in raw
    assert b"MHcCAQEEIHunterTwo" not in raw
    assert b"ab" * 32 not in raw
    assert WORD not in names
    assert "a plain line" in found["nodes/n2/agent.log"].decode()
    assert b"work_mem: 77MB" in found["configuration.yaml"]
    assert b"comment" not in found["configuration.yaml"]
    assert json.loads(found["doctor.json"])["findings"]
    assert out.stat().st_mode & 0o777 == 0o600
    again = pgherd("report", "--config", config, "--out", out)
    assert again.code == 2
    assert "is there already" in again.err


def test_silent_parts_are_listed_and_spoil_nothing(herd, served, pgherd, tmp_path) -> None:
    herd.own.silent.add(NodeId("n3"))
    out = tmp_path / "bundle.tar.gz"
    done = pgherd("report", "--api-url", served.url, "--out", out)
    assert done.code == 0, done.err
    found = contents(out)
    missing = found["missing.txt"].decode()
    assert "nodes/n3/agent.log: n3: no connection to n3" in missing
    assert "nodes/n2/agent.log" in found
    assert "configuration.yaml" not in found, "of another machine's node this one's file is wrong"


def test_where_nothing_can_be_had_nothing_is_written(pgherd, tmp_path) -> None:
    """Nobody answers, and no node's configuration is at hand."""
    out = tmp_path / "bundle.tar.gz"
    done = pgherd("report", "--api-url", "http://127.0.0.1:1", "--out", out)
    assert (done.code, "no daemon answers" in done.err) == (1, True)
    assert not out.exists()


def test_without_a_daemon_the_bundle_has_what_this_node_knows(pgherd, config, tmp_path) -> None:
    port = pgherd.free_base()
    config.write_text(config.read_text().replace("api: {", f"api: {{port: {port}, "))
    out = tmp_path / "bundle.tar.gz"
    done = pgherd("report", "--config", config, "--out", out)
    assert done.code == 0, done.err
    found = contents(out)
    told = {one["check"]: one for one in json.loads(found["doctor.json"])["findings"]}
    assert told["agent.running"]["status"] == "critical"
    assert b"no daemon answers" in found["missing.txt"]
    assert WORD.encode() not in b"".join(found.values())
    assert io.BytesIO(out.read_bytes()).read(2) == b"\x1f\x8b"
