"""Small integer problems solved exactly: finite domains, ``+ * //``, ``==``, ``<=``, divisibility, membership, one objective.

>>> problem = Problem()
>>> width = problem.variable("width", range(16, 65, 16))
>>> heads = problem.variable("heads", range(1, 13))
>>> problem.require(divides(heads, width), width // heads >= 4, width * heads <= 400)
>>> problem.solve(maximise=width * heads)
{'width': 48, 'heads': 8}
>>> sorted(problem.feasible({"width": 48}))
[1, 2, 3, 4, 6, 8]
>>> problem.count()
16

The search goes through the variables with the smallest domain first. After each decision every constraint takes from the domains of
its variables what can no longer hold, until nothing changes; with an objective, branches that cannot beat the best solution found are
left out. Tiles of kernels are chosen so in "FlashRNN: Optimizing Traditional RNNs on Modern Hardware" (2024, 2412.07752).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from .expressions import Constraint, Domains, Expression, Variable, divides, highest, lowest, one_of

__all__ = ["Constraint", "Expression", "NodeLimitError", "Problem", "Variable", "divides", "one_of"]

Solution = dict[str, int]


class NodeLimitError(RuntimeError):
    """A search needed more nodes than it may have: there is no answer, neither yes nor no."""


class Problem:
    """Variables, and constraints between them.

    Args:
        node_limit: decisions that one search may try.
    """

    def __init__(self, node_limit: int = 100_000) -> None:
        if node_limit < 1:
            raise ValueError(f"The argument node_limit of Problem must be at least 1. Got {node_limit} instead.")
        self.node_limit = node_limit
        self._domains: dict[str, frozenset[int]] = {}
        self._constraints: list[Constraint] = []
        self._solutions: list[tuple[int, ...]] | None = None
        self._feasible: dict[tuple[tuple[str, int], ...], frozenset[int]] = {}

    def variable(self, name: str, domain: Iterable[int]) -> Variable:
        """A new variable, one of the integers ``domain``.

        Raises:
            ValueError: the name is taken. TypeError: a value is not an integer.
        """
        if name in self._domains:
            raise ValueError(f'The problem has a variable "{name}" already; choose another name.')
        values = list(domain)
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f'The domain of "{name}" must hold integers. Got {value!r} instead.')
        self._domains[name] = frozenset(values)
        self._forget()
        return Variable(name)

    def require(self, *constraints: Constraint) -> None:
        """All of ``constraints`` must hold.

        Raises:
            TypeError: something else was given. ValueError: a constraint names a variable of another problem.
        """
        for constraint in constraints:
            if not isinstance(constraint, Constraint):
                raise TypeError(f"A problem requires constraints such as x <= 3. Got {constraint!r} instead.")
            unknown = constraint.variables - self._domains.keys()
            if unknown:
                raise ValueError(f"The constraint {constraint} names {sorted(unknown)}; variables are {sorted(self._domains)}.")
            self._constraints.append(constraint)
        self._forget()

    def solve(self, *, maximise: Expression | None = None, minimise: Expression | None = None) -> Solution | None:
        """A solution, the best by the objective if one is given, or None if there is none.

        Raises:
            NodeLimitError: the search was stopped. ValueError: two objectives, or one that names an unknown
            variable.
        """
        if maximise is not None and minimise is not None:
            raise ValueError("Problem.solve takes maximise or minimise. Got both.")
        if minimise is not None:
            maximise = -1 * minimise
        if maximise is not None and not maximise.variables <= self._domains.keys():
            raise ValueError(f"The objective {maximise} names {sorted(maximise.variables)}; variables are {sorted(self._domains)}.")
        solutions = self._search(maximise).improving()
        best = next(solutions, None)
        while maximise is not None and (better := next(solutions, None)) is not None:
            best = better
        return best

    def count(self) -> int:
        """How many solutions there are, by enumeration. Raises NodeLimitError: the search was stopped."""
        return len(self._all())

    def sample(self, generator: random.Random | torch.Generator) -> Solution | None:
        """One solution, each as likely as any other, or None if there is none.

        The solutions are enumerated once and kept. Raises NodeLimitError: the search was stopped.
        """
        solutions = self._all()
        if not solutions:
            return None
        if isinstance(generator, torch.Generator):
            index = int(torch.randint(len(solutions), (), generator=generator, device=generator.device))
        else:
            index = generator.randrange(len(solutions))
        return dict(zip(self._domains, solutions[index], strict=True))

    def feasible(self, values: Mapping[str, int]) -> set[int]:
        """The values of the next variable, in the order they were made, with which ``values`` can be completed to a solution.

        Raises:
            NodeLimitError: a search was stopped. ValueError: a name is unknown, or every variable has a value.
        """
        unknown = values.keys() - self._domains.keys()
        if unknown:
            raise ValueError(f"Values were given for {sorted(unknown)}; variables are {sorted(self._domains)}.")
        undecided = next((name for name in self._domains if name not in values), None)
        if undecided is None:
            raise ValueError("Every variable has a value; there is no next one.")
        key = tuple(sorted(values.items()))
        if key not in self._feasible:
            search = self._search(None)
            given = {name: self._domains[name] & {value} for name, value in values.items()}
            start = search.narrowed({**self._domains, **given})
            tried = {} if start is None else {value: {**start, undecided: frozenset((value,))} for value in start[undecided]}
            self._feasible[key] = frozenset(value for value, domains in tried.items() if search.solvable(domains))
        return set(self._feasible[key])

    def _search(self, objective: Expression | None) -> _Search:
        touching = {name: [c for c in self._constraints if name in c.variables] for name in self._domains}
        return _Search(self._domains, self._constraints, touching, objective, self.node_limit)

    def _all(self) -> list[tuple[int, ...]]:
        if self._solutions is None:
            self._solutions = sorted(tuple(found[name] for name in self._domains) for found in self._search(None).improving())
        return self._solutions

    def _forget(self) -> None:
        self._solutions = None
        self._feasible.clear()


@dataclass
class _Search:
    """One search: the nodes it has tried, and the best value of the objective so far."""

    domains: Domains
    constraints: list[Constraint]
    touching: Mapping[str, list[Constraint]]
    objective: Expression | None
    node_limit: int
    nodes: int = 0
    best: int | None = None

    def improving(self) -> Iterator[Solution]:
        """Solutions, each better than those before; all of them where there is no objective."""
        start = self.narrowed(self.domains)
        if start is not None:
            yield from self._below(start)

    def solvable(self, domains: Domains) -> bool:
        start = self.narrowed(domains)
        return start is not None and next(self._below(start), None) is not None

    def _below(self, domains: Domains) -> Iterator[Solution]:
        reach = self._reach(domains)
        if self.objective is not None and (reach is None or (self.best is not None and reach <= self.best)):
            return
        open_names = [name for name, domain in domains.items() if len(domain) > 1]
        if not open_names:
            solution = {name: lowest(domain) for name, domain in domains.items()}
            self.best = reach
            yield solution
            return
        name = min(open_names, key=lambda name: len(domains[name]))
        for value in self._ordered(domains, name):
            self.nodes += 1
            if self.nodes > self.node_limit:
                raise NodeLimitError(
                    f"The search did not finish within {self.node_limit} nodes; raise node_limit, or narrow the domains or constraints."
                )
            narrowed = self.narrowed({**domains, name: frozenset((value,))}, self.touching[name])
            if narrowed is not None:
                yield from self._below(narrowed)

    def _ordered(self, domains: Domains, name: str) -> list[int]:
        """Values by what the objective can reach with them, then by size."""

        reach = {value: self._reach({**domains, name: frozenset((value,))}) for value in domains[name]}
        return sorted(reach, key=lambda value: (-(reach[value] or 0), value))

    def _reach(self, domains: Domains) -> int | None:
        """What the objective may still be; None where there is no objective, or where it divides by zero."""
        values = frozenset() if self.objective is None else self.objective.values(domains)
        return highest(values) if values else None

    def narrowed(self, domains: Domains, changed: Iterable[Constraint] | None = None) -> dict[str, frozenset[int]] | None:
        """The domains without values that some constraint excludes; None where one becomes empty."""
        left = dict(domains)
        if not all(left.values()):
            return None
        waiting = list(self.constraints if changed is None else changed)
        while waiting:
            constraint = waiting.pop()
            if not constraint.possible(left):
                return None
            for name in constraint.variables:
                before = left[name]
                if len(before) == 1:
                    continue
                kept = frozenset(value for value in before if constraint.possible(_with(left, name, value)))
                left[name] = kept
                if not kept:
                    return None
                if len(kept) < len(before):
                    waiting += [other for other in self.touching[name] if other not in waiting]
        return left


def _with(domains: dict[str, frozenset[int]], name: str, value: int) -> dict[str, frozenset[int]]:
    """``domains`` itself with one variable decided for the moment."""
    domains[name] = frozenset((value,))
    return domains
