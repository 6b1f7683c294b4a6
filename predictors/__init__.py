"""How good a candidate will be: predictors of final scores, and stoppers that turn them into early ends with a stated risk.

A predictor is fitted on finished candidates and asked about a running one (:class:`~archwright.search_space.protocols.Predictor`);
a stopper hears a study's events and judges its running candidates (:class:`~archwright.search_space.protocols.Stopper`). New ones
register with ``@predictor("name")`` and ``@stopper("name")``; ``archwright.testing`` holds them to their contracts.
"""
