"""Processes of their own for hostile work: isolation, confinement; executors on this machine and on Ray."""
