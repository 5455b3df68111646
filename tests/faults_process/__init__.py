"""Faults of real processes: the operator's own, a proxy that interferes, a real API server.

Points, faults and strikes are those of `testbed.faults`; what differs is that time and processes are
real, and that kopf's own requests are met too. `Actor` plays the node; nothing else is played.
"""
