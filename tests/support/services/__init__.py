"""Servers and sockets that tests start."""
