"""What to do next: pure functions from what is seen of a service to a plan. Nothing here reads or writes."""
