"""`pgherd config generate --for` writes valid files, and what `init` would have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.config.load import load
from pgherd.config.settings import Settings
from pgherd.model.facts import Kind


@pytest.fixture(autouse=True)
def no_postgres_search(monkeypatch):
    """The search for PostgreSQL is `postgres`'s own matter; here it finds 15."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, 15))
    monkeypatch.setattr("pgherd.cli.founding.speaks_tls", lambda settings: True)


@pytest.fixture
def made(pgherd, tmp_path) -> Path:
    """The directory of a node with its certificates and secrets."""
    where = ("--address", "127.0.0.1", "--base-port", str(pgherd.free_base()))
    assert pgherd("init", "--dir", tmp_path / "n1", *where).code == 0
    return tmp_path / "n1"


def generated(pgherd, purpose: str, directory: Path, *more: str) -> tuple[Path, str]:
    """The file, and what was said."""
    file = directory.parent / f"{purpose}.yaml"
    where = ("--dir", directory, "--address", "127.0.0.1", "--file", file)
    result = pgherd("config", "generate", "--for", purpose, *where, *more)
    assert result.code == 0, result.err
    return file, result.err


def told(settings: Settings, *, but: set[str]) -> dict[str, dict[str, object]]:
    """Everything that settings say, section by section."""
    sections = {name: dict(getattr(settings, name)) for name in ("cluster", "node", "raft", "api")}
    sections |= {name: dict(getattr(settings, name)) for name in ("postgresql", "proxy", "log")}
    return {
        name: {key: value for key, value in section.items() if f"{name}.{key}" not in but}
        for name, section in sections.items()
    }


def test_production_is_what_init_writes(pgherd, made):
    """But for the token, which is made anew, and the first members."""
    base = load(str(made / "pgherd.yaml"), {}).raft.port - 4
    file, said = generated(pgherd, "prod", made, "--base-port", str(base))
    assert pgherd("config", "validate", "--config", file).code == 0
    ours, inits = load(str(file), {}), load(str(made / "pgherd.yaml"), {})
    but = {"api.tokens", "raft.members"}
    assert told(ours, but=but) == told(inits, but=but)
    assert ours.postgresql.has_tls
    assert [one.role for one in ours.api.tokens] == ["admin"]
    assert ours.api.tokens[0].name == "admin"
    token = said.rsplit(":", 1)[1].strip()
    from pgherd.pki.token import hash_secret

    assert hash_secret(token) == ours.api.tokens[0].sha256
    assert token not in file.read_text()


def test_a_token_of_ones_own_is_kept(pgherd, made):
    own = "api.tokens=[{name: mine, role: admin, sha256: '" + "ab" * 32 + "'}]"
    file, said = generated(pgherd, "prod", made, "--set", own)
    assert "admin's token" not in said
    assert [one.name for one in load(str(file), {}).api.tokens] == ["mine"]


def test_a_witness_names_no_password(pgherd, made):
    file, _ = generated(pgherd, "witness", made)
    assert pgherd("start", "--validate", "--config", file).code == 0
    settings = load(str(file), {})
    assert settings.kind is Kind.WITNESS
    assert settings.proxy.listeners == ()
    assert str(made / "secrets") not in file.read_text()


def test_development_is_valid_with_nothing_else(pgherd, tmp_path):
    result = pgherd("config", "generate", "--for", "dev", "--dir", tmp_path / "d")
    file = tmp_path / "dev.yaml"
    file.write_text(result.out)
    assert pgherd("start", "--validate", "--config", file).code == 0
    settings = load(str(file), {})
    assert settings.node.address.bound("raft") == "127.0.0.1"
    assert [seat.name for seat in settings.raft.members] == ["n1"]


def test_missing_certificates_are_named(pgherd, tmp_path):
    file, _ = generated(pgherd, "prod", tmp_path / "n1")
    result = pgherd("config", "validate", "--config", file)
    assert result.code == 2
    assert f"cannot read {tmp_path}/n1/pki/ca.crt" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--for", "prod", "--name", "N 1", "--address", "10.0.0.1"), "is not a node name"),
        (("--for", "prod", "--address", "0.0.0.0"), "is every address"),
        (("--for", "test"), "--for"),
        (("--address", "10.0.0.1"), "belong to --for"),
        (("--name", "n2"), "belong to --for"),
    ],
)
def test_wishes_that_make_no_node(pgherd, options, said):
    result = pgherd("config", "generate", *options)
    assert result.code == 2
    assert said in result.err


def test_a_file_is_not_overwritten(pgherd, tmp_path):
    file, _ = generated(pgherd, "dev", tmp_path / "d")
    before = file.read_text()
    assert pgherd("config", "generate", "--for", "dev", "--file", file).code == 2
    assert file.read_text() == before


def test_who_the_service_runs_as_has_its_place(pgherd, tmp_path, monkeypatch):
    """Where a package has prepared both directories; root is told to become their owner."""
    from pgherd.cli import place

    config, data = tmp_path / "etc" / "pgherd.yaml", tmp_path / "lib"
    for directory in (config.parent, data):
        directory.mkdir()
    monkeypatch.setattr(place, "CONFIG_DEFAULT", str(config))
    monkeypatch.setattr(place, "DIRECTORY_ROOT", data)
    monkeypatch.setattr(place.os, "geteuid", lambda: 4711)
    assert place.choose_place(directory=None, config=None) == place.Place(config, data)
    monkeypatch.setattr(place, "DIRECTORY_ROOT", tmp_path / "absent")
    own = place.choose_place(directory=None, config=None)
    assert own.directory == Path.home() / ".local/share/pgherd"

    monkeypatch.setattr(place.os, "geteuid", lambda: 0)
    monkeypatch.setattr(place, "DIRECTORY_ROOT", data)
    if data.stat().st_uid:
        pytest.skip("only root can give a directory to another user")
    assert place.choose_place(directory=None, config=None).directory == data
    import os

    os.chown(data, 65534, -1)
    result = pgherd("init", "--address", "127.0.0.1")
    assert result.code == 2
    assert "sudo -u nobody pgherd" in result.err
