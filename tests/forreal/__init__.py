"""Faults for real: the operator's process, a proxy that interferes, a real API server.

Points, faults and strikes are those of `faults.plan`; what differs is that time and processes are
real, and that kopf's own requests are met too. `Actor` plays the node; nothing else is played.
"""
