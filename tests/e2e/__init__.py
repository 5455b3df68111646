"""On a real API server, and on the local node."""
