"""What the operator costs, measured on a real API server and on the local node."""
