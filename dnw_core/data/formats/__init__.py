"""File formats: encoded images, Parquet shards, their manifest, packed images."""
