"""The daemon: joins the rooms into one running node.

Owns the supervisor, the agent's see -> decide -> do loop, the driving of consensus, and `build`,
the only place that wires rooms together. Leaves every decision to `plan`, every act to `act`.
"""
