"""Results in a bucket: the client, the trials there, the lease of the driver, the local mirror."""
