"""Proves what of the operator's rules counts for a pool, and what a server is told of a client."""

from __future__ import annotations

from pgherd.route.entry import Kind, Places
from pgherd.route.poolrules import Database, PoolRules, Share, Sizes
from pgherd.route.poolsteps import PoolLimits

RULES = PoolRules(
    limits=PoolLimits(size=10, min_size=2),
    users={"ann": Sizes(size=3, wait_ms=0), "bob": Sizes(size=1), "eve": Sizes(servers=1)},
    databases={
        "shop": Database(Sizes(size=5, queue=9)),
        "reports": Database(dbname="shop", settings={"work_mem": "64MB", "datestyle": "German"}),
        "small": Database(Sizes(servers=0)),
    },
    user_servers=7,
    database_servers=8,
    ignored=("extra_float_digits",),
)


def test_what_is_said_of_a_user_counts_before_what_is_said_of_a_database() -> None:
    assert RULES.limits_of("joe", "other") == RULES.limits
    assert RULES.limits_of("joe", "shop") == PoolLimits(size=5, min_size=2, queue=9)
    assert RULES.limits_of("ann", "shop") == PoolLimits(size=3, min_size=2, queue=9, wait_ms=0)


def test_no_more_is_kept_open_than_there_may_be() -> None:
    assert RULES.limits_of("bob", "shop").min_size == 1


def test_a_server_hears_its_own_name_of_a_database_and_what_it_begins_with() -> None:
    said = (("user", "ann"), ("database", "reports"), ("DateStyle", "ISO"))
    assert RULES.at_startup(said) == (
        ("user", "ann"),
        ("database", "shop"),
        ("DateStyle", "ISO"),
        ("work_mem", "64MB"),
    )
    assert RULES.dbname_of("reports") == "shop"
    assert RULES.dbname_of("other") == "other"


def test_what_a_client_says_in_its_options_is_heard_before_the_databases_settings() -> None:
    said = (
        ("user", "ann"),
        ("database", "reports"),
        ("options", "-c work_mem=1MB --DateStyle=ISO"),
    )
    assert RULES.at_startup(said) == (("user", "ann"), ("database", "shop"), said[2])


def test_a_database_that_is_not_said_has_its_users_name() -> None:
    """As PostgreSQL has it: an alias of that name counts."""
    assert RULES.at_startup((("user", "reports"),)) == (
        ("user", "reports"),
        ("database", "shop"),
        ("work_mem", "64MB"),
        ("datestyle", "German"),
    )
    assert RULES.at_startup((("user", "ann"),)) == (("user", "ann"),)


def test_ignored_parameters_are_not_passed_on_however_they_are_written() -> None:
    said = (("user", "ann"), ("database", "other"), ("Extra_Float_Digits", "3"), ("jit", "off"))
    assert RULES.at_startup(said) == (("user", "ann"), ("database", "other"), ("jit", "off"))


def test_places_are_shared_by_the_pools_of_a_user_and_of_a_database() -> None:
    places = Places()
    rules = PoolRules(
        users={"eve": Sizes(servers=2)}, databases={"shop": Database(Sizes(servers=3))}
    )
    eve, joe = (Share(places, rules.servers_of(user, "shop")) for user in ("eve", "joe"))
    eves_other = Share(places, rules.servers_of("eve", "other"))
    assert [eve.take(), eve.take(), eve.take()] == [True, True, False]
    assert eve.lacking() == {(Kind.USER, "eve")}
    assert joe.lacking() == frozenset()
    assert not eves_other.take()
    assert [joe.take(), joe.take()] == [True, False]
    eve.give()
    assert eves_other.take()
    assert joe.take()


def test_a_place_that_cannot_be_had_of_one_kind_is_not_taken_of_the_other() -> None:
    places = Places()
    share = Share(places, RULES.servers_of("eve", "shop"))
    assert [share.take(), share.take()] == [True, False]
    other = Share(places, RULES.servers_of("joe", "shop"))
    assert [other.take() for _ in range(9)].count(True) == 7  # of eight to shop


def test_zero_lifts_a_limit() -> None:
    share = Share(Places(), RULES.servers_of("ann", "small"))
    taken = [share.take() for _ in range(9)]
    assert taken.count(True) == 7  # the user's limit, for the database has none
