"""Executors pull evaluators: ``inline`` in this process, ``ray`` in a set of persistent actors."""
