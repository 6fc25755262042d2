"""The named scopes: small worlds that together touch every part of the protocol.

Those that CI exhausts come first: what one leaves of its share the others get.
"""

from __future__ import annotations

from pgherd.sim.explore.scope import Scope

SCOPES: dict[str, Scope] = {
    "tiny": Scope(
        "two data nodes and a witness, no event but one write",
        data=2,
        witness=True,
        voters=1,
        terms=1,
    ),
    "witness": Scope(
        "two data nodes and a witness: a write, the primary's death, an election",
        data=2,
        witness=True,
        voters=1,
        crashes=1,
        mortal=(0,),
        share=4,
    ),
    "late": Scope(
        "the same without deaths; standbys learn late and proposals take time",
        data=2,
        witness=True,
        voters=1,
        slow=True,
        flights=True,
        share=4,
    ),
    "degraded": Scope(
        "two data nodes: the standby dies, the cluster degrades, synchrony returns",
        data=2,
        voters=1,
        generations=3,
        crashes=1,
        mortal=(1,),
        share=4,
    ),
    "alone": Scope(
        "two data nodes, degraded at first: synchrony returns, a write, an election, a fall",
        data=2,
        voters=0,
        k=0,
        generations=2,
        falls=1,
        share=4,
    ),
    "strict": Scope(
        "two data nodes, mode strict: a death, an election",
        data=2,
        voters=1,
        strict=True,
        generations=3,
        crashes=1,
        share=2,
    ),
    "agents": Scope(
        "three data nodes: n3 joins the set while the primary's agent dies and comes back",
        voters=1,
        generations=2,
        agents=1,
        mortal=(0,),
        share=3,
    ),
    "switchover": Scope(
        "three data nodes: a write, a planned switchover", switchovers=1, terms=3, share=2
    ),
    "lone": Scope(
        "three data nodes: a write, an election in which n3 may not lead and n2 catches up from it",
        barred=1,
        share=12,
    ),
    "ordered": Scope("three data nodes: an operator orders a failover", failovers=1, share=2),
    "joins": Scope(
        "three data nodes: n3 joins the set, a write, an election",
        voters=1,
        generations=3,
        share=4,
    ),
    "leaves": Scope(
        "three data nodes: n3 has gone and leaves the set, a write, an election",
        unstreamed=1,
        generations=3,
        share=4,
    ),
    "split": Scope(
        "n2 has taken over; n1 comes back with other WAL and is rewound, an election meanwhile",
        reign=2,
        terms=3,
        share=4,
    ),
    "rebuilt": Scope(
        "three data nodes: n2's data is lost; it is copied anew and admitted",
        voters=1,
        generations=3,
        wipes=1,
        mortal=(1,),
        share=4,
    ),
    "restored": Scope(
        "n2 has taken over; then the ledger is lost and restored as of before",
        reign=2,
        restores=1,
        share=4,
    ),
    "forgotten": Scope(
        "two data nodes, degraded; then the ledger is lost and restored as of the beginning",
        data=2,
        voters=0,
        k=0,
        terms=3,
        restores=1,
        share=2,
    ),
    "unknown": Scope(
        "n2 was promoted and died before its epoch record; a ledger of before is restored",
        unknown=True,
        terms=4,
        generations=2,
        share=2,
    ),
    "electors": Scope(
        "three data nodes: two electors after each other, a write", electors=1, terms=3, share=3
    ),
    "four": Scope(
        "four data nodes, k rises from 1 to 2: a write, an election",
        data=4,
        voters=3,
        num_sync=2,
        generations=2,
        share=3,
    ),
    "five": Scope(
        "five data nodes, two acknowledgements: a write, an election",
        data=5,
        voters=4,
        k=2,
        share=3,
    ),
    "failover": Scope(
        "three data nodes: two writes, two elections, a death",
        terms=3,
        writes=2,
        crashes=1,
        share=4,
    ),
    "election": Scope("three data nodes: a write, an election", share=6),
}
