"""How fast, how lean and how exact the engine is, beside what others run.

Models and samples are made on the spot. Every contestant has a process of its own, all take turns in one run, and what
they say about the same samples is compared.
"""
