"""A configuration is accepted whole or refused with every reason, each at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.config.check import file_problems
from pgherd.config.load import load, load_text
from pgherd.config.problems import ConfigError
from pgherd.config.settings import Settings
from pgherd.daemon.translate import proxy_settings
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.relay.messages import Pool, ProxyTls

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"
TLS = "raft: {tls: {ca: /c, cert: /e, key: /k}}\n"


def problems(text: str, env: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a text, one line a problem."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="f", env=env)
    return [str(problem) for problem in caught.value.problems]


def test_the_smallest_file_has_every_default() -> None:
    settings = load_text(SMALLEST)
    assert settings.raft.heartbeat_ms == 100
    assert settings.failover.detect_ms == 1500
    assert settings.proxy.max_replica_lag_bytes == 16 << 20
    assert [listener.port for listener in settings.proxy.listeners] == [5432, 5433]


@pytest.mark.fault(87)
def test_all_problems_come_at_once_with_their_lines() -> None:
    found = problems(
        "cluster: {name: x}\n"
        "node:\n"
        "  name: N1\n"
        "  address: 127.0.0.1\n"
        "raft:\n"
        "  heartbeat: 10ms\n"
        "  prot: 3\n"
        "failover: {detect: 3}\n"
    )
    assert [line.partition(": ")[0] for line in found] == ["f:1", "f:3", "f:6", "f:7", "f:8"]
    assert found[0] == "f:1: version: is missing (begin the file with version: 1)"
    assert found[2].startswith("f:6: raft.heartbeat: 10ms is too little (at least 20ms: ")
    assert found[3] == "f:7: raft.prot: is not a key of pgherd (did you mean port?)"
    assert "has no unit" in found[4]


def test_a_key_written_twice_is_refused_with_both_lines() -> None:
    assert problems(SMALLEST + "log: {level: info}\nraft: {}\nlog: {}\n") == [
        "f:5: log: is written twice, first on line 3 (keep one of the two)"
    ]


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("raft: {bind_port: 1}", "raft.port"),
        ("proxy: {primary_port: 1}", "proxy.listeners"),
        ("scope: x", "cluster.name"),
        ("restapi: {listen: x}", "api.bind"),
        ("bootstrap: {dcs: {ttl: 30}}", "failover.detect"),
        ("loop_wait: 10", "failover.detect"),
        ("ttl: 30", "failover.detect"),
        ("etcd: {hosts: a}", "raft"),
        ("postgresql: {callbacks: {on_start: x}}", "hooks"),
        ("postgresql: {pre_promote: x}", "hooks.pre_promote"),
        ("postgresql: {authentication: {superuser: {username: x}}}", "postgresql.superuser"),
    ],
)
def test_names_of_other_systems_are_answered_with_ours(line: str, ours: str) -> None:
    [problem] = problems(SMALLEST + line)
    assert "'s name (here it is" in problem
    assert ours in problem.partition("here it is")[2]


@pytest.mark.parametrize(
    "line",
    [
        "backup: {tool: x}",
        "store: {kind: etcd}",
        "limits: {}",
        "proxy: {balance: weighted}",
    ],
)
def test_what_comes_later_is_refused_and_says_so(line: str) -> None:
    [problem] = problems(SMALLEST + line)
    assert "is not available in this version" in problem


def test_a_fencing_command_is_nothing_or_a_program() -> None:
    """YAML reads `off` as false; a map is the command, and its errors are about its own keys."""
    for text, value in (("auto", "auto"), ("off", "off"), ('"off"', "off")):
        assert load_text(SMALLEST + f"failover: {{fence: {text}}}").failover.fence == value
    one = load_text(SMALLEST + "failover: {fence: {command: [/bin/f, -x], deadline: 5s}}")
    assert not isinstance(one.failover.fence, str)
    assert one.failover.fence.command == ("/bin/f", "-x")
    assert (one.failover.fence.deadline_ms, one.failover.fence.required) == (5000, False)
    for text, why in (
        ("yes please", "write auto or off"),
        ("{command: [fence]}", "whole path"),
        ("{command: []}", "whole path"),
        ("{deadline: 5s}", "failover.fence.command: is missing"),
        ("{command: [/bin/f], deadline: 1ms}", "at least 1s"),
        ("{command: [/bin/f], dedline: 1s}", "did you mean deadline?"),
    ):
        [problem] = problems(SMALLEST + f"failover: {{fence: {text}}}")
        assert why in problem


def test_environment_overrides_the_file_and_is_named_in_errors() -> None:
    env = {"PGHERD__RAFT__PORT": "8301", "PGHERD__PROXY__LISTENERS": "[{port: 1, route: replica}]"}
    settings = load_text(SMALLEST, env={**env, "PGHERD_TOKEN": "ignored"})
    assert settings.raft.port == 8301
    assert settings.proxy.listeners[0].route == "replica"
    assert problems(SMALLEST, {"PGHERD__RAFT__PORT": "x"}) == [
        "environment PGHERD__RAFT__PORT: raft.port: 'x' is not a port"
        " (write a number from 1 to 65535)"
    ]
    assert "did you mean" in problems(SMALLEST, {"PGHERD__RAFT__PROT": "1"})[0]


def test_the_environment_alone_is_enough() -> None:
    env = {"PGHERD__VERSION": "1", "PGHERD__NODE__NAME": "n7", "PGHERD__NODE__ADDRESS": "::1"}
    assert load_text("", env=env).node.name == "n7"


def test_plain_words_stay_words() -> None:
    text = "version: 1\nnode: {name: no, address: 127.0.0.1, zone: 1e3, tags: {nosync: yes}}\n"
    node = load_text(text).node
    assert (node.name, node.zone, node.tags.nosync) == ("no", "1e3", True)


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: &x 1\nb: *x", "- 1", "\tx: 1", "? [1]\n: 2", "a: !!python/name:os.system x"],
)
@pytest.mark.fault(87)
def test_what_is_not_our_yaml_ends_in_one_sentence(text: str) -> None:
    found = problems(text)
    assert found
    assert all(line.startswith("f") and "\n" not in line for line in found)


def test_secrets_are_references_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    text = SMALLEST + f"postgresql: {{superuser: {{password: 'file:{file}'}}}}\n"
    settings = load_text(text, check_files=True)
    secret = settings.postgresql.superuser.password
    assert secret is not None
    assert secret.reveal() == "hunter2"
    file.write_text("hunter3\n")
    assert secret.reveal() == "hunter3"
    literal = load_text(SMALLEST + "postgresql: {replication: {password: hunter4}}\n")
    assert "hunter4" not in repr(literal)
    assert "hunter5" not in "".join(
        problems(SMALLEST + "postgresql: {replication: {password: [hunter5]}}\n")
    )


def test_unreadable_files_are_problems_of_their_keys(tmp_path: Path) -> None:
    config = tmp_path / "pgherd.yaml"
    config.write_text(SMALLEST + TLS + "postgresql: {superuser: {password: 'env:NOT_SET'}}\n")
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "raft.tls.ca",
        "raft.tls.cert",
        "raft.tls.key",
        "postgresql.superuser.password",
    ]
    assert caught.value.exit_code == 2


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pgherd config generate"):
        load(tmp_path / "absent.yaml")


def test_addresses_split_per_channel_and_take_ipv6() -> None:
    settings = load_text(
        "version: 1\n"
        "node:\n"
        "  name: n1\n"
        "  address: {listen: '::', advertise: 'FD00::1', api: {listen: '::1'}, proxy: '10.0.0.9'}\n"
        "raft:\n"
        "  members: ['n1=[fd00::1]:8300', 'n2=db2.example.com:8300']\n"
        "  tls: {ca: /c, cert: /e, key: /k}\n"
    )
    address = settings.node.address
    assert address.bound("raft") == "::"
    assert address.advertised("raft") == "fd00::1"
    assert address.bound("api") == "::1"
    assert address.advertised("api") == "fd00::1"
    assert address.bound("proxy") == address.advertised("proxy") == "10.0.0.9"
    assert str(settings.raft.members[0]) == "n1=[fd00::1]:8300"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALLEST + "raft: {port: 8008}\n", "port 8008 is also that of raft.port"),
        (SMALLEST + "raft: {election_timeout: 400ms}\n", "too little for this heartbeat"),
        (SMALLEST + "failover: {lease_ttl: 4s}\n", "a lease has to outlast the election"),
        (SMALLEST + "raft: {election_timeout: 5s}\n", "5s leaves 3100ms without a renewal"),
        (
            SMALLEST + "failover: {lease_ttl: 5s, detect: 4s}\n",
            "at least 4s must be left: two times raft.election_timeout, and failover.detect",
        ),
        (SMALLEST + "raft: {members: ['n2=h:1']}\n", "does not list this node, n1"),
        (SMALLEST + "raft: {members: ['n1=h:1', 'n1=h:2']}\n", "n1 is listed twice"),
        (SMALLEST + "postgresql: {data_dir: /var/lib/pgherd}\n", "lie in each other"),
        (
            SMALLEST.replace("name: n1", "name: n1, tags: {replicatefrom: n1}"),
            "a node cannot stream from itself",
        ),
        (
            SMALLEST.replace("name: n1", "name: n1, tags: {replicatefrom: N_2}"),
            "write the name of another member",
        ),
        (
            SMALLEST + "postgresql: {parameters: {recovery_min_apply_delay: 1h}}\n",
            "write node.tags.delay",
        ),
        (SMALLEST + f"postgresql: {{socket_dir: /{'x' * 100}}}\n", "longer than the 107 bytes"),
        (
            SMALLEST + "postgresql: {parameters: {wal_level: minimal}}\n",
            "lose acknowledged commits",
        ),
        (SMALLEST + "postgresql: {parameters: {Fsync: off}}\n", "belongs to pgherd"),
        ("version: 1\nnode: {name: n1, address: 10.0.0.1}\n", "pose as a member"),
        ("version: 1\nnode: {name: n1, address: 0.0.0.0}\n", "no peer can reach it"),
        ("version: 1\nnode: {name: n1, address: {api: '::1'}}\n", "that others reach raft at"),
        ("version: 1\nnode: {name: pgherd-closed, address: '::1'}\n", "keeps for itself"),
    ],
)
def test_keys_are_checked_together(text: str, said: str) -> None:
    assert any(said in problem for problem in problems(text))


def test_settings_are_frozen() -> None:
    settings: Settings = load_text(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        settings.raft.port = 1  # type: ignore[misc]


def test_a_section_of_comments_only_has_its_defaults() -> None:
    assert load_text(SMALLEST + "raft:\n  # port: 1\n").raft.port == 8300


def test_files_of_the_proxy_are_a_pair_that_is_used(tmp_path: Path) -> None:
    """Without a listener that ends TLS they would do nothing; a key of another is no key."""
    tls = "tls: {{cert: {0}/{1}.crt, key: {0}/{2}.key}}"
    ends = "listeners: [{port: 1, route: primary, pool: session}]"
    [problem] = problems(SMALLEST + f"proxy: {{{tls.format(tmp_path, 'a', 'a')}}}")
    assert "proxy.tls: has no effect: with pool: none TLS is between client and" in problem
    authority = make_ca("test")
    for name in ("a", "b"):
        issued = make_node_certificate(authority, NodeId(name), ["127.0.0.1"])
        (tmp_path / f"{name}.crt").write_bytes(issued.certificate_pem)
        (tmp_path / f"{name}.key").write_bytes(issued.key_pem)
    for cert, key, wrong in (
        ("a", "b", f"proxy.tls.key: {tmp_path}/b.key is not the key of {tmp_path}/a.crt"),
        ("c", "a", f"proxy.tls.cert: cannot read {tmp_path}/c.crt"),
    ):
        text = SMALLEST + f"proxy: {{{ends}, {tls.format(tmp_path, cert, key)}}}"
        with pytest.raises(ConfigError) as caught:
            load_text(text, check_files=True)
        [problem] = [str(each) for each in caught.value.problems]
        assert wrong in problem
    text = SMALLEST + f"proxy: {{{ends}, {tls.format(tmp_path, 'a', 'a')}}}"
    settings = load_text(text, check_files=True)
    assert settings.proxy.tls is not None
    told = proxy_settings(settings)
    assert [one.pool for one in told.listeners] == [Pool.SESSION]
    assert told.tls == ProxyTls(str(tmp_path / "a.crt"), str(tmp_path / "a.key"))


def test_the_section_of_postgresql_says_what_a_node_is(tmp_path: Path) -> None:
    """Empty, or set from the environment, it is there; data without it are not left unserved."""
    assert load_text(SMALLEST).kind is Kind.PROXY
    assert load_text(SMALLEST + "postgresql:\n  # port: 5442\n").kind is Kind.DATA
    assert load_text(SMALLEST, env={"PGHERD__POSTGRESQL__PORT": "5442"}).kind is Kind.DATA
    witness = SMALLEST.replace("name: n1,", "name: n1, witness: true,")
    assert load_text(witness + "postgresql: {}\n").kind is Kind.WITNESS
    [problem] = problems(SMALLEST + "proxy: {listeners: []}\n")
    assert "write postgresql: {} for data" in problem
    settings = load_text(SMALLEST)
    place = settings.postgresql.model_copy(update={"data_dir": tmp_path})
    left = settings.model_copy(update={"postgresql": place})
    left.model_fields_set.discard("postgresql")
    assert not list(file_problems(left, {}))
    (tmp_path / "PG_VERSION").touch()
    [(path, message, _)] = file_problems(left, {})
    assert (path, message) == (("postgresql",), f"is missing, but there is data in {tmp_path}")
