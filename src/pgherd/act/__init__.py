"""Hands: one actuator per action of the plan, passed in order through one executor per member.

Owns how an action is carried out on the local server and which promises are saved before and after.
Leaves what to do to `plan`, how PostgreSQL is handled to `postgres`, durability to `store`.
"""
