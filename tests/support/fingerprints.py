"""The fingerprints of the shipped rows' recipes, as ``fingerprints.yaml`` pins them."""

from __future__ import annotations

from pathlib import Path

import yaml

PAPER_FINGERPRINTS: dict[str, str] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
