"""Where the images of a data set come from: folders, shards, the cache."""
