"""A folder of images becomes Parquet shards."""
