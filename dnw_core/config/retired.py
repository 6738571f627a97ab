"""Why rows have another recipe than they once had: a sentence for each setting that was mended (free of torch).

What was trained under the old value keeps its fingerprint and is never taken for the row's result; listings can say
why.
"""

from __future__ import annotations

# dotted name of the setting, as ``dnw_core.config.base.flatten`` spells it -> why its value in a row changed
RETIRED_FIELDS: dict[str, str] = {
    "network.ode_ends": "the released network clamps the end of every solver step at zero, not the start state alone "
    "(docs/deviations.md, Q9)",
}
