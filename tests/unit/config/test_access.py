"""The keys of who may call the API and of TLS: what is taken, refused, and read again."""

from __future__ import annotations

import pytest

from pgherd.api.guard import Role
from pgherd.config.fields import Change
from pgherd.config.generate import generate
from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff
from pgherd.daemon import translate
from pgherd.postgres.access import hba_text
from pgherd.postgres.settings import Place, conninfo, derive

FILES = {"ca": "/p/ca.crt", "cert": "/p/node.crt", "key": "/p/node.key"}


def test_the_guard_gets_what_the_file_says() -> None:
    """Defaults are as open, or closed, as a file of before."""
    plain = translate.access(load_text(generate()))
    assert (plain.allow, plain.protect_reads, plain.protect_metrics) == ((), True, False)
    assert (plain.changes_per_minute, plain.takes_certificates, plain.clients) == (100, False, {})
    clients = [{"name": "ann@x.org", "role": "operator"}, {"name": "bob", "role": "none"}]
    given = {
        "api.tls": FILES,
        "api.clients": clients,
        "api.allow": ["10.0.0.0/8", "fd00::1"],
        "api.protect_reads": False,
        "api.protect_metrics": True,
        "api.rate_limit": 0,
    }
    said = translate.access(load_text(generate(given)))
    assert said.clients == {"ann@x.org": Role.OPERATOR, "bob": None}
    assert [str(one) for one in said.allow] == ["10.0.0.0/8", "fd00::1/128"]
    assert (said.protect_reads, said.protect_metrics) == (False, True)
    assert (said.changes_per_minute, said.takes_certificates) == (0, True)
    changed = diff(load_text(generate()), load_text(generate(given)))
    assert {one.key: one.change for one in changed} == {
        "api.tls": Change.RELOAD,
        **{key: Change.LIVE for key in given if key != "api.tls"},
    }


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("api.clients", [{"name": "a", "role": "god"}], "none"),
        ("api.allow", ["10.0.0.1/8"], "10.0.0.0/8"),
        ("api.rate_limit", -1, "too little"),
        ("postgresql.tls", {"cert": "/c"}, "key"),
    ],
)
def test_what_is_none_is_refused_with_what_to_write(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_text(generate({key: value}))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("required", "mode", "line"),
    [(True, "verify-full", "hostssl replication"), (False, "prefer", "host replication")],
)
def test_postgresql_has_tls_by_copies(required: bool, mode: str, line: str) -> None:
    """Beside its data directory; members check each other where it is required."""
    given = {"postgresql.data_dir": "/d/pg/data", "postgresql.tls": FILES | {"required": required}}
    configured = load_text(generate(given))
    assert configured.postgresql.has_tls
    settings = translate.server_settings(configured)
    owned = derive(settings, Place("/d/pg/data", 1, "/s"))
    assert (owned["ssl"], owned["ssl_cert_file"]) == ("on", "/d/pg/tls/node.crt")
    assert (owned["ssl_key_file"], owned["ssl_ca_file"]) == (
        "/d/pg/tls/node.key",
        "/d/pg/tls/ca.crt",
    )
    text = conninfo(settings, host="10.0.0.1", port=1, application_name="a", role="r")
    assert f"sslmode={mode} sslrootcert=/d/pg/tls/ca.crt" in text
    assert f"\n{line} " in hba_text(settings)
    assert translate.shared(configured).postgres_tls is required
    assert "ssl" not in derive(
        translate.server_settings(load_text(generate())), Place("/d", 1, "/s")
    )
