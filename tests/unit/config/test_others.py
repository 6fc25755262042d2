"""Every key of the products that people come from is answered: with ours, or why there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from pgherd.config.describe import keys_under, walk
from pgherd.config.load import load_text
from pgherd.config.others import SAME, products
from pgherd.config.problems import ConfigError, Problem

PRODUCTS = {product.name: product for product in products()}
OURS = {described.key for described in walk()}
ALSO_OURS = re.compile(
    r"(nothing( yet| here)?: |pgherd [a-z]|PGHERD_|settings stand in this file|this file:|each )"
)


def problems(text: str) -> tuple[Problem, ...]:
    try:
        load_text(text, file="f.yaml")
    except ConfigError as error:
        return error.problems
    return ()


def tree(keys: dict[str, Any]) -> dict[str, Any]:
    """A file with these keys; a key that is a section as well has only what is in it."""
    found: dict[str, Any] = {}
    for key, value in keys.items():
        *above, last = key.split(".")
        here = found
        for step in above:
            if not isinstance(here.get(step), dict):
                here[step] = {}
            here = here[step]
        if not isinstance(here.get(last), dict):
            here[last] = value
    return found


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_key_of_a_product_is_answered_with_its_line(name: str) -> None:
    """A file that has all of its keys: one problem for each, on the line where it stands."""
    product = PRODUCTS[name]
    whole = {
        **dict.fromkeys(product.keys, "x"),
        **{
            f"{section}.{key}": "x"
            for section, (_, keys) in product.sections.items()
            for key in keys
        },
    }
    text = yaml.safe_dump(tree(whole), sort_keys=False)
    found = {(one.place, one.key): one for one in problems(text)}
    lines = places(text)
    above = {key.rpartition(".")[0] for key in whole}
    for key, place in product.keys.items():
        if place == SAME or key in OURS or inner(key) or key in above:
            continue
        if any(key.startswith(f"{section}.") for section in product.sections):
            continue
        told = found.get((f"f.yaml:{lines[key]}", key))
        assert told is not None, (key, lines[key])
        assert told.hint == f"here it is {PRODUCTS[name].place(key)}", (key, told)
    for section in product.sections:
        told = found[f"f.yaml:{lines[section]}", section]
        assert told.hint.startswith("here it is "), section


def places(text: str) -> dict[str, int]:
    """Where each key of a block-style YAML stands."""
    found, above = {}, []
    for number, line in enumerate(text.splitlines(), start=1):
        depth = (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], line.strip().partition(":")[0]]
        found[".".join(above)] = number
    return found


@pytest.mark.parametrize("name", PRODUCTS)
def test_what_takes_a_keys_place_exists(name: str) -> None:
    """It begins with a key that may be written, a command, or with why there is none."""
    sections = {described.path[0] for described in walk()}
    for key in (*PRODUCTS[name].keys, *PRODUCTS[name].sections):
        place = PRODUCTS[name].place(key)
        if ALSO_OURS.match(place):
            continue
        word = re.match(r"[a-z_.]+", place)
        assert word is not None, (key, place)
        ours = word[0].rstrip(".")
        known = ours in OURS or ours in sections or inner(ours)
        assert known, (key, place)


def inner(key: str) -> bool:
    """A key within an entry of a list, or of a map that may be missing."""
    above, _, last = key.rpartition(".")
    return bool(last) and last in keys_under(tuple(above.split(".")))


def test_patronis_tls_keys_lead_to_ours() -> None:
    """Those of the command line to its variables, those of the members' roles to their section."""
    patroni = PRODUCTS["Patroni"]
    assert patroni.place("ctl.certfile").startswith("PGHERD_CERT;")
    assert patroni.place("ctl.keyfile").startswith("PGHERD_KEY;")
    for role in ("superuser", "replication", "rewind"):
        for key in ("sslmode", "sslcert", "sslkey", "sslrootcert"):
            place = patroni.place(f"postgresql.authentication.{role}.{key}")
            assert place.startswith("postgresql.tls:"), (role, key)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_same_key_is_ours(name: str) -> None:
    for key, place in PRODUCTS[name].keys.items():
        if place == SAME:
            assert key in OURS or keys_under(tuple(key.split("."))), key


RAMD = """# comment
[global]
node_id = 1
http_port=8080

[cluster]
name = default
colour = red
"""


def test_a_file_of_assignments_is_answered_line_by_line() -> None:
    first, *rest = problems(RAMD)
    assert "pgherd config generate" in first.hint
    assert [(one.place, one.key, one.hint) for one in rest] == [
        ("f.yaml:3", "node_id", "here it is node.name"),
        ("f.yaml:4", "http_port", "here it is api.port"),
        ("f.yaml:7", "cluster.name", "here it is cluster.name"),
        ("f.yaml:8", "cluster.colour", "remove it"),
    ]
    [one] = problems("what = ever\nis = this\n")
    assert "is not a map" in one.message or "not YAML" in one.message


def test_a_vip_as_a_map_is_answered() -> None:
    vip = "vip: {address: 10.0.0.9, interface: eth0, renew_interval: 3s}"
    whole, one = problems(f"version: 1\nnode: {{name: n1, address: 127.0.0.1}}\n{vip}\n")
    assert (whole.key, whole.message) == ("vip", "must be a list")
    assert one.key == "vip.renew_interval"
    assert "here it is nothing: " in one.hint


def test_products_are_only_read_when_needed() -> None:
    """An agent with a good file never has the tables in memory."""
    code = (
        "from pgherd.config.load import load_text; import sys;"
        "load_text('version: 1\\nnode: {name: n1, address: 127.0.0.1}');"
        "sys.exit('pgherd.config.others' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
