"""Several worker processes of one trial on this machine."""
