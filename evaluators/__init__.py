"""How good a candidate is: tasks, the evaluator that trains, and the executors that run evaluators here or on Ray.

An evaluator is a generator: it yields a report after every unit of budget, and closing it stops the work. A job, plain JSON, is
all a worker gets. ``tasks`` hold the data, ``trainer`` trains, ``executors`` run jobs in this process or on persistent Ray
actors; ``tune`` is the edge for people whose loop belongs to Ray Tune.
"""
