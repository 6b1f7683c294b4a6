"""What can be built: a search space is a function from choices to an architecture.

A space asks its questions through ``choose`` (:mod:`.choices`) and returns an :class:`Architecture`, an immutable graph of
nodes. Every controller drives the same function by supplying the answers; the recorded :class:`Trace` names the result.
``build`` turns the graph into a PyTorch module, ``cost`` counts it, ``digest`` names the network it is.
The nouns shared by the rooms above (candidates, reports, outcomes, protocols) are defined here too.
"""
