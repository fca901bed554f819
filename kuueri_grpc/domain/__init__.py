"""The pure core: what a task is and what happens to it next.

Standard library only. No clock, no randomness, no I/O: time and random draws come in as arguments,
so that every rule here can be tested exactly and instantly.
"""
