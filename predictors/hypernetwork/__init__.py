"""A graph hypernetwork over a study's own space: it reads a candidate's graph and predicts all its weights in one forward pass.

:mod:`.graph` turns an architecture into nodes and parameter tensors, :mod:`.model` predicts, :mod:`.training` trains,
:mod:`.files` keeps, :mod:`.candidates` answers about single architectures. After Parameter Prediction for Unseen Deep
Architectures (2021, arXiv 2110.13100), called GHN-2 there.
"""
