"""The prior-fitted network: a small transformer that has seen a great many made-up studies, and reads a real one as its context.

Three steps share one way of writing a study down. :mod:`.prior` draws studies, :mod:`.rows` writes each candidate as one row of
numbers in units of the study's own spread, :mod:`.network` reads the rows of other candidates and says, for a row without a final
value, how that value is distributed. :mod:`.predictor` is the registered ``prior-fitted``; ``studies/training/prior_fitted.py``
trains the weights beside this file.
"""
