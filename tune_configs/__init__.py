"""What to reproduce: one YAML file a table, and the typed schema that reads them."""

from tune_configs.loader import load_tables
from tune_configs.scales import SCALES, Scale
from tune_configs.schema import Published, Row, RowResources, Table
