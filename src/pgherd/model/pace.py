"""How often a node looks and tells by itself: what its detection times are made of."""

from __future__ import annotations

LOOK_MS = 1000
"""Between two looks at the own server while nothing changes."""

SUSPECT_LOOK_MS = 250
"""The same while something may be wrong with it."""

REPORT_MS = 200
"""Between two reports to the others."""

LOOP_MS = 300
"""The agent looks around after so long even if nothing happens."""
