"""The API server in memory, held to a real one by tests/support/conformance.py."""
