"""The REST API of a node: what people and programs see of the herd, and what they may ask for.

Owns routes, the public contract (`schema`), who may do what (`guard`), the form of errors
(`failures`) and what a status means (`views`, pure). Speaks to the agent only through the port in
`herd`. Leaves every decision to the deciders and every change to the ledger.
"""

import sys

# FastAPI looks whether a model is one of pydantic 1, and imports that whole for it: 1.8 MB that no
# model of ours needs. It goes without where the import fails, and None makes it fail.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]  # typeshed wants a module
