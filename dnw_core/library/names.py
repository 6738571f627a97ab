"""Names of the rules: those of the tables, and those under which they are known elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

# other name -> the name in tables and messages; docs/sparsify.md lists them
ALIASES: dict[str, str] = {
    "dense": "complete",
    "dnw": "top-edges",
    "static": "fixed-random",
    "snfs": "sparse-momentum",
    "gmp": "gradual-pruning",
    "str": "soft-threshold",
    "acdc": "ac-dc",
    "edgepopup": "edge-popup",
    "topkast": "top-kast",
}


def own_name(name: str, known: Iterable[str]) -> str | None:
    """Return the rule's own name; None if no rule is called ``name``.

    Args:
        name: upper and lower case are alike, as are underscores, blanks, slashes and hyphens: "Top_KAST", "AC/DC".
        known: the own names of all rules.
    """
    plain = name.strip().lower()
    for separator in "_ /":
        plain = plain.replace(separator, "-")
    plain = ALIASES.get(plain, plain)
    return plain if plain in set(known) else None
