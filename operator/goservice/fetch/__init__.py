"""What the build pod's first container runs: check one commit out, verify it, report."""
