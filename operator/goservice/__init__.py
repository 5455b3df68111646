"""From a Go repository to a running service: the GoService operator."""

__version__ = "0.1.0"
