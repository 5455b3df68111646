"""The newest commit of each repository and revision, polled once for all services that share it."""
