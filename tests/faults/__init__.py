"""Faults in process: the real worker loop on an in-memory cluster and a virtual clock.

A fault plan is data: a scenario, and strikes at points that the undisturbed run has shown. The
campaign repeats the scenario once for each of them, and the oracles judge every run.
"""
