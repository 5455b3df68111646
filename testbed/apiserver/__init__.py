"""A real API server on loopback, and what plays the node and the git servers."""
