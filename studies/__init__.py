"""The run: one validated configuration, an append-only journal, a loop over executors, and what is read from it afterwards.

A *study* asks a controller, writes down what it says, lets an executor evaluate it, writes down what came of it, and tells the
controller. Whatever happened is in ``journal.jsonl``; the :class:`~archwright.studies.ledger.Ledger` is what a study knows after
reading it, and a killed study goes on from there.

============ =======================================================================
``config``   the one configuration, from YAML or Python
``parts``    the registered things it names, made ready before anything starts
``journal``  the events, append-only;  ``ledger``: what they add up to
``study``    decides what comes next;  ``engine``: lets an executor carry it out
``api``      ``run`` and ``resume``;   ``result``: leaderboard, best, Pareto front
============ =======================================================================
"""
