"""Integer expressions and the relations between them, and what values they may take while their variables are undecided."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Values = frozenset[int] | range  # exactly these, or some of an interval
Domains = Mapping[str, frozenset[int]]

MOST_PAIRS = 64  # above this many combinations an operation is bounded by an interval


class Expression(ABC):
    """What ``+``, ``*`` and ``//`` make of variables and integers; ``==``, ``<=``, ``>=`` make constraints of it."""

    variables: frozenset[str]

    @abstractmethod
    def values(self, domains: Domains) -> Values:
        """All values it may take, and perhaps more; exactly its value where each domain holds one number."""

    def __add__(self, other: Expression | int) -> Expression:
        return Operation("+", self, expression(other))

    def __radd__(self, other: int) -> Expression:
        return Operation("+", expression(other), self)

    def __mul__(self, other: Expression | int) -> Expression:
        return Operation("*", self, expression(other))

    def __rmul__(self, other: int) -> Expression:
        return Operation("*", expression(other), self)

    def __floordiv__(self, other: Expression | int) -> Expression:
        return Operation("//", self, expression(other))

    def __rfloordiv__(self, other: int) -> Expression:
        return Operation("//", expression(other), self)

    def __eq__(self, other: Expression | int) -> Constraint:  # type: ignore[override]
        return Constraint("==", self, expression(other))

    def __le__(self, other: Expression | int) -> Constraint:
        return Constraint("<=", self, expression(other))

    def __ge__(self, other: Expression | int) -> Constraint:
        return Constraint("<=", expression(other), self)

    def __bool__(self) -> bool:
        raise TypeError(f"The expression {self} has no truth value while its variables are undecided.")

    __hash__ = object.__hash__


def expression(value: Expression | int) -> Expression:
    """Raises TypeError: ``value`` is neither an expression nor an integer."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Expressions are made of variables and integers. Got {value!r} instead.")
    return Constant(value)


@dataclass(frozen=True, eq=False)
class Variable(Expression):
    """An integer to be decided."""

    name: str

    @property
    def variables(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset((self.name,))

    def values(self, domains: Domains) -> Values:
        return domains[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Constant(Expression):
    value: int
    variables: frozenset[str] = frozenset()

    def values(self, domains: Domains) -> Values:
        return frozenset((self.value,))

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, eq=False)
class Operation(Expression):
    symbol: str
    left: Expression
    right: Expression
    variables: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", self.left.variables | self.right.variables)

    def values(self, domains: Domains) -> Values:
        left, right = self.left.values(domains), self.right.values(domains)
        if self.symbol == "//":
            right = _without_zero(right)
        if not left or not right:
            return frozenset()
        apply = _APPLY[self.symbol]
        if isinstance(left, frozenset) and isinstance(right, frozenset) and len(left) * len(right) <= MOST_PAIRS:
            return frozenset(apply(a, b) for a in left for b in right)
        ends = [apply(a, b) for a in (lowest(left), highest(left)) for b in _turning_points(right, self.symbol)]
        return range(min(ends), max(ends) + 1)

    def __str__(self) -> str:
        return f"({self.left} {self.symbol} {self.right})"


_APPLY: dict[str, Callable[[int, int], int]] = {"+": operator.add, "*": operator.mul, "//": operator.floordiv}


def lowest(values: Values) -> int:
    return values[0] if isinstance(values, range) else min(values)


def highest(values: Values) -> int:
    return values[-1] if isinstance(values, range) else max(values)


def _without_zero(values: Values) -> Values:
    """A division by zero gives no value."""
    if isinstance(values, frozenset):
        return values - {0}
    first, last = values[0] + (values[0] == 0), values[-1] - (values[-1] == 0)
    return range(first, last + 1)


def _turning_points(values: Values, symbol: str) -> Iterable[int]:
    """Where an operation can be extreme: at the ends, and in a division at the divisors next to zero."""
    ends = (lowest(values), highest(values))
    return (*ends, *(one for one in (-1, 1) if symbol == "//" and ends[0] <= one <= ends[1]))


@dataclass(frozen=True, eq=False)
class Constraint:
    """A relation that must hold: ``==``, ``<=``, ``divides`` (left divides right), or ``in`` (left is one of ``choices``)."""

    relation: str
    left: Expression
    right: Expression
    choices: frozenset[int] = frozenset()

    @property
    def variables(self) -> frozenset[str]:
        return self.left.variables | self.right.variables

    def possible(self, domains: Domains) -> bool:
        """Whether it may still hold; exact where each domain holds one number."""
        left = self.left.values(domains)
        right: Values = self.choices if self.relation == "in" else self.right.values(domains)
        if not left or not right:
            return False
        if self.relation == "<=":
            return lowest(left) <= highest(right)
        return _may_divide(left, right) if self.relation == "divides" else _may_meet(left, right)

    def __bool__(self) -> bool:
        raise TypeError(f"The constraint {self} has no truth value; give it to Problem.require (and write a <= b <= c as two).")

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {sorted(self.choices) if self.relation == 'in' else self.right}"


def divides(divisor: Expression | int, number: Expression | int) -> Constraint:
    """``number`` is a multiple of ``divisor``, which is not zero."""
    return Constraint("divides", expression(divisor), expression(number))


def one_of(value: Expression, choices: Iterable[int]) -> Constraint:
    """``value`` is among ``choices``."""
    return Constraint("in", expression(value), Constant(0), frozenset(choices))


def _may_meet(left: Values, right: Values) -> bool:
    if isinstance(left, range):
        left, right = right, left
    if isinstance(left, frozenset):
        return not left.isdisjoint(right) if isinstance(right, frozenset) else any(value in right for value in left)
    return lowest(left) <= highest(right) and lowest(right) <= highest(left)


def _may_divide(divisors: Values, numbers: Values) -> bool:
    if isinstance(divisors, range):
        return len(_without_zero(divisors)) > 0
    if isinstance(numbers, range):
        return any(numbers[-1] // abs(divisor) * abs(divisor) >= numbers[0] for divisor in divisors if divisor)
    return any(number % divisor == 0 for divisor in divisors if divisor for number in numbers)
