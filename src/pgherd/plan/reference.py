"""The rules as a page for people, made from the tables themselves.

Pure: gives the text of docs/reference/rules.md; a test compares it with the file.
"""

from __future__ import annotations

from pgherd.plan import herd, member, vip

HEAD = """# Rules

Made from the tables in `src/pgherd/plan` by `pgherd.plan.reference`; do not edit.

Three deciders look at the same facts, each with a table of numbered rules. In each table the first
rule that applies decides, from top to bottom. A number is never used again. `history`, the journal
and the logs name the rule of every decision.
"""
HERD = """
## For the herd

Run by the Raft leader on the ledger's facts and everybody's reports; what a rule decides becomes a
command of the ledger.

| rule | sentence |
|---:|---|
"""
MEMBER = """
## For a member

Run by every node on the facts as committed there, its own server and its own promises; what a rule
decides is an action of this node on itself.

| rule | sentence |
|---:|---|
"""
VIP = """
## For an address that moves

Asked by every node for every address in its `vip`, from the ledger, its own server and all reports.
What is not forbidden is right: the address belongs here (1031 to 1033).

| rule | for | sentence |
|---:|---|---|
"""


def page() -> str:
    """The whole page."""
    for_herd = "".join(f"| {rule.number} | {rule.sentence} |\n" for rule in herd.RULES)
    for_member = "".join(f"| {rule.number} | {rule.sentence} |\n" for rule in member.RULES)
    for_vip = "".join(
        f"| {number} | {scope} | {sentence} |\n" for number, scope, sentence in vip.rows()
    )
    return HEAD + HERD + for_herd + MEMBER + for_member + VIP + for_vip


if __name__ == "__main__":
    print(page(), end="")
