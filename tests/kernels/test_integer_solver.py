"""The integer solver against brute force, and its answers when there are none."""

from __future__ import annotations

import operator
import random
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from archwright.kernels.integer_solver import NodeLimitError, Problem, divides, one_of


def random_formula(rng, count, depth):
    """A function that makes the same formula of variables and of numpy arrays."""
    if depth == 0 or rng.random() < 0.3:
        index = rng.randrange(count)
        return lambda v: v[index]
    left, right, symbol = random_formula(rng, count, depth - 1), random_formula(rng, count, depth - 1), rng.choice("++**/c")
    constant = rng.randint(-3, 6)
    return {
        "+": lambda v: left(v) + right(v),
        "*": lambda v: left(v) * right(v),
        "/": lambda v: left(v) // right(v),
        "c": lambda v: constant * left(v) + constant,
    }[symbol]


def random_problem(seed):
    """A problem, the same as arrays over all assignments: which are solutions, and what the objective is there."""
    rng = random.Random(seed)
    count = rng.randint(1, 5)
    largest = 12 if count < 4 else rng.choice([3, 4, 5, 6])
    domains = [sorted(rng.sample(range(-2 if rng.random() < 0.3 else 0, 16), rng.randint(1, largest))) for _ in range(count)]
    problem = Problem(node_limit=10**6)
    symbols = [problem.variable(f"x{index}", domain) for index, domain in enumerate(domains)]
    arrays = [np.array(axis, dtype=np.int64) for axis in zip(*product(*domains), strict=True)]
    holds = np.ones(len(arrays[0]), dtype=bool)

    def evaluated(formula):
        """Values on all assignments, and where they exist: a division by zero gives none."""
        with np.errstate(divide="ignore"):
            masked = [np.ma.masked_array(array, mask=np.zeros(array.shape, dtype=bool)) for array in arrays]
            value = formula(masked)
        mask = np.ma.getmaskarray(value)
        return value.filled(0), ~mask

    for _ in range(rng.randint(0, 3)):
        left, right, kind = random_formula(rng, count, 2), random_formula(rng, count, 2), rng.choice(["==", "<=", "<=", "divides", "in"])
        (a, a_there), (b, b_there) = evaluated(left), evaluated(right)
        if kind == "in":
            choices = rng.sample(range(0, 30), 6)
            constraint, true = one_of(left(symbols), choices), np.isin(a, choices)
        elif kind == "divides":
            constraint, true = divides(left(symbols), right(symbols)), (a != 0) & (b % np.where(a == 0, 1, a) == 0) & b_there
        else:
            compare = operator.eq if kind == "==" else operator.le
            constraint, true = compare(left(symbols), right(symbols)), compare(a, b) & b_there
        problem.require(constraint)
        holds &= true & a_there
    formula = random_formula(rng, count, 2)
    objective, there = evaluated(formula)
    return problem, domains, arrays, holds, formula(symbols), np.where(there, objective, np.iinfo(np.int64).min), there


def test_agrees_with_brute_force_on_200_random_problems():
    seen = Counter()
    for seed in range(200):
        problem, domains, arrays, holds, objective, values, there = random_problem(seed)
        solution = problem.solve()
        seen["feasible" if holds.any() else "infeasible"] += 1
        assert (solution is None) == (not holds.any()), seed
        assert problem.count() == holds.sum(), seed
        table = set(zip(*(array[holds].tolist() for array in arrays), strict=True))
        if solution is not None:
            assert tuple(solution.values()) in table, seed
            assert problem.feasible({}) == {row[0] for row in table}, seed
        best = problem.solve(maximise=objective)
        if (holds & there).any():
            assert best is not None, seed
            assert tuple(best.values()) in table, seed
            chosen = np.all([array == value for array, value in zip(arrays, best.values(), strict=True)], axis=0)
            assert values[chosen][0] == values[holds & there].max(), seed
            least = problem.solve(minimise=objective)
            chosen = np.all([array == value for array, value in zip(arrays, least.values(), strict=True)], axis=0)
            assert values[chosen][0] == values[holds & there].min(), seed
        else:
            assert best is None, seed
    assert min(seen["feasible"], seen["infeasible"]) >= 20, seen


def heads_and_widths():
    problem = Problem()
    width, heads = problem.variable("width", range(8, 65, 4)), problem.variable("heads", range(1, 17))
    problem.require(divides(heads, width))
    return problem, {(w, h) for w in range(8, 65, 4) for h in range(1, 17) if w % h == 0}


def test_asking_value_by_value_gives_valid_pairs_only_and_every_one_of_them():
    problem, valid = heads_and_widths()
    rng, seen = random.Random(0), set()
    for _ in range(10_000):
        width = rng.choice(sorted(problem.feasible({})))
        heads = rng.choice(sorted(problem.feasible({"width": width})))
        assert width % heads == 0
        seen.add((width, heads))
    assert seen == valid


def test_what_is_feasible_can_be_completed():
    problem = Problem()
    a, b, c = (problem.variable(name, range(1, 10)) for name in "abc")
    problem.require(a * b == c + 7, divides(3, a + b), c <= 4)
    table = {(x, y, z) for x, y, z in product(range(1, 10), repeat=3) if x * y == z + 7 and (x + y) % 3 == 0 and z <= 4}
    assert problem.feasible({}) == {x for x, _, _ in table}
    for x, y, _ in table:
        assert problem.feasible({"a": x}) == {other for first, other, _ in table if first == x}
        assert problem.feasible({"a": x, "b": y}) == {z for first, second, z in table if (first, second) == (x, y)}
    assert problem.feasible({"a": 9}) == set()
    assert problem.feasible({"a": 77}) == set()


@pytest.mark.parametrize("make", [random.Random, lambda seed: torch.Generator().manual_seed(seed)], ids=["random", "torch"])
def test_samples_are_uniform_and_repeat_with_their_seed(make):
    problem, valid = heads_and_widths()
    generator = make(0)
    drawn = Counter(tuple(problem.sample(generator).values()) for _ in range(20_000))
    expected = 20_000 / len(valid)
    assert drawn.keys() == valid
    # a chi-squared statistic more than six deviations from its mean has a chance below 1e-8
    statistic = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert abs(statistic - len(valid)) < 6 * (2 * len(valid)) ** 0.5
    assert [problem.sample(make(3)) for _ in range(3)] == [problem.sample(make(3))] * 3


def test_an_infeasible_problem_has_no_solution():
    problem = Problem()
    x, y = problem.variable("x", range(1, 9)), problem.variable("y", range(1, 9))
    problem.require(x * y == 53)
    assert problem.solve() is None
    assert problem.solve(maximise=x + y) is None
    assert problem.count() == 0
    assert problem.sample(random.Random(0)) is None
    assert problem.feasible({}) == set()
    empty = Problem()
    empty.variable("x", [])
    assert empty.solve() is None


def test_the_node_limit_is_an_error_and_not_an_answer():
    problem = Problem(node_limit=50)
    variables = [problem.variable(f"x{index}", range(40)) for index in range(6)]
    total = sum(2 * variable for variable in variables)
    problem.require(total == 201)  # an even number is not odd, but bounds do not tell
    for search in (problem.solve, problem.count, lambda: problem.sample(random.Random(0)), lambda: problem.solve(minimise=total)):
        with pytest.raises(NodeLimitError, match="within 50 nodes"):
            search()


def test_a_new_constraint_is_seen_by_every_question():
    problem, valid = heads_and_widths()
    assert problem.count() == len(valid)
    assert 64 in problem.feasible({})
    width = problem.variable("spare", [0])
    problem.require(width == 1)
    assert problem.count() == 0
    assert problem.feasible({}) == set()


def test_propagation_alone_solves_a_chain():
    problem = Problem(node_limit=1)
    names = [problem.variable(f"x{index}", range(50)) for index in range(20)]
    problem.require(names[0] == 3, *(after == before + 2 for before, after in pairwise(names)))
    assert problem.solve() == {f"x{index}": 3 + 2 * index for index in range(20)}


def test_wrong_arguments_are_refused_in_one_sentence():
    problem = Problem()
    x = problem.variable("x", range(4))
    other = Problem().variable("y", range(4))
    for act, error, words in (
        (lambda: Problem(node_limit=0), ValueError, "node_limit"),
        (lambda: problem.variable("x", range(4)), ValueError, '"x" already'),
        (lambda: problem.variable("z", [1.5]), TypeError, "integers"),
        (lambda: x + 0.5, TypeError, "integers"),
        (lambda: problem.require(True), TypeError, "x <= 3"),
        (lambda: problem.require(other <= 2), ValueError, "'y'"),
        (lambda: problem.solve(maximise=other), ValueError, "'y'"),
        (lambda: problem.solve(maximise=x, minimise=x), ValueError, "both"),
        (lambda: problem.feasible({"w": 1}), ValueError, "'w'"),
        (lambda: problem.feasible({"x": 1}), ValueError, "no next"),
        (lambda: 1 <= x <= 2, TypeError, "a <= b <= c"),
        (lambda: bool(x + 1), TypeError, "truth value"),
    ):
        with pytest.raises(error, match=words):
            act()
