"""The newest commit of each repository and revision, asked once for all services that share it."""
