"""Where a training will end, from the curve so far: one lesson for each observed length.

The completed curves of a study, cut at the length s that a running candidate has reached, and what those candidates ended at are a
regression problem of their own (:class:`~archwright.predictors.curves.lesson.Lesson`); a member of this package is one way to solve it
(:class:`~archwright.predictors.curves.base.CurvePredictor`). Every member also says what it would have predicted of the completed
curves had it not seen how they ended. From these errors come the spread of a prediction (``band``) and the weights of the members in
``curve-ensemble``.

Values are gains: larger is better, and a positive metric that is made small stands on the scale of its logarithm.
"""
