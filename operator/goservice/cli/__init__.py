"""The command line, `goservice` and `kubectl-goservice`: a skin over the other modules."""
