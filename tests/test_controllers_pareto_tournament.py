"""Pareto tournaments and NSGA-II: who wins, who survives, and what the front gains by it."""

import random

import pytest

from archwright.controllers.evolution import RegularizedEvolution
from archwright.controllers.pareto_tournament import CRITERIA, ParetoTournament, by_crowding, by_front, by_mean, by_rank_sum
from archwright.search_space.dominance import best_of, crowding, dominates, fronts
from archwright.search_space.hypervolume import hypervolume
from archwright.search_space.outcomes import Objective, Outcome
from archwright.search_space.space import Space
from archwright.testing import check_controller
from archwright.testing.toys import MIXERS, toy_architecture

TWO = (Objective("left"), Objective("right"))
NSGA2 = {"criterion": "crowding", "survival": "front", "crossover": 0.5}


def _vectors(rng, count, size, levels=5):
    return [tuple(float(rng.randrange(levels)) for _ in range(size)) for _ in range(count)]


def test_fronts_equal_peeling_by_brute_force():
    rng = random.Random(0)
    for size in (1, 2, 3):
        for _ in range(60):
            vectors = _vectors(rng, 20, size)
            left, expected, rank = list(range(20)), [-1] * 20, 0
            while left:
                best = [i for i in left if not any(dominates(vectors[j], vectors[i]) for j in left)]
                for i in best:
                    expected[i] = rank
                left, rank = [i for i in left if i not in best], rank + 1
            assert fronts(vectors) == expected


def test_the_pareto_criterion_equals_a_brute_force_dominance_check():
    rng = random.Random(1)
    for _ in range(200):
        vectors = _vectors(rng, 8, 3)
        beaten = [any(all(b >= a for a, b in zip(mine, other, strict=True)) and other != mine for other in vectors) for mine in vectors]
        assert by_front(vectors) == [i for i in range(8) if not beaten[i]]


def test_with_one_objective_every_criterion_is_the_ordinary_tournament():
    rng = random.Random(2)
    for _ in range(100):
        vectors = [(value,) for value in rng.sample(range(100), 8)]
        best = max(range(8), key=lambda i: vectors[i])
        assert all(wins(vectors) == [best] for wins in CRITERIA.values())


@pytest.mark.parametrize("seed", range(5))
def test_with_one_objective_the_same_draw_has_the_same_winner(seed):
    """The winner is the best of the members drawn, which a plain tournament would pick."""
    controller = ParetoTournament(MIXERS, (Objective("left"),), seed=seed, population=20, tournament_frac=0.3)
    for n in range(20):
        _told(controller, n, {"left": float((7 * n) % 20)})
    for draw in range(40):
        tournament = random.Random(draw).sample(controller.population, k=6)
        assert controller._winner(random.Random(draw)) == max(tournament, key=lambda member: member.gains).trace


def test_criteria_by_hand():
    vectors = [(9.0, 0.0), (4.0, 4.0), (0.0, 5.0), (3.0, 3.0)]
    assert by_front(vectors) == [0, 1, 2]
    assert by_mean(vectors) == [0]
    assert by_rank_sum(vectors) == [1]
    assert by_crowding(vectors) == [2]
    assert crowding(vectors[:3])[0] == float("inf")


def test_best_of_keeps_whole_fronts_and_then_the_least_crowded():
    vectors = [(0.0, 10.0), (1.0, 9.0), (1.1, 8.9), (5.0, 5.0), (10.0, 0.0), (0.0, 0.0)]
    assert set(best_of(vectors, 5)) == {0, 1, 2, 3, 4}
    assert set(best_of(vectors, 3)) == {0, 3, 4}
    assert best_of(vectors, 6)[-1] == 5


def _told(controller, n, metrics):
    proposal = controller.ask(n)
    controller.asked(n, proposal.trace, proposal.note)
    controller.told(n, Outcome("completed", metrics))
    return proposal.trace


def test_the_front_survives_with_front_and_the_youngest_with_age():
    for survival in ("age", "front"):
        controller = ParetoTournament(MIXERS, TWO, seed=0, population=20, survival=survival)
        for n in range(40):
            good = n < 5
            _told(controller, n, {"left": 10.0 + n if good else 0.1 * (n % 7), "right": 10.0 - n if good else 0.1 * (n % 5)})
        kept = [member.gains for member in controller.population]
        assert len(kept) == 20
        assert sum(values[0] >= 10 for values in kept) == (5 if survival == "front" else 0)


def _bits(choose):
    return toy_architecture(**{f"bit-{i}": choose.one_of(f"bit-{i}", [0, 1]) for i in range(24)})


BITS = Space("toy-bits", _bits)
HOSTS = ([1] * 24, [1] * 12 + [0] * 12)  # OneMax, and OneMax of which half of the bits are shifted


def _hosts(trace):
    bits = list(trace.values_by_path().values())
    return tuple(float(sum(bit == wanted for bit, wanted in zip(bits, host, strict=True))) for host in HOSTS)


def _volume(seed, evaluations, **knobs):
    controller = ParetoTournament(BITS, TWO, seed=seed, **knobs)
    found = []
    for n in range(evaluations):
        proposal = controller.ask(n)
        found.append(_hosts(proposal.trace))
        controller.asked(n, proposal.trace, proposal.note)
        controller.told(n, Outcome("completed", dict(zip(("left", "right"), found[-1], strict=True))))
    return hypervolume(found, (0.0, 0.0))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "knobs",
    [{}, pytest.param({"criterion": "rank_sum"}, marks=SLOW), pytest.param(NSGA2, marks=SLOW)],
    ids=["pareto", "rank-sum", "nsga-ii"],
)
def test_hypervolume_on_two_shifted_onemax_hosts_exceeds_random_search(knobs):
    wins = 0
    for seed in range(10):
        rng = random.Random(seed)
        wins += _volume(seed, 500, **knobs) > hypervolume([_hosts(BITS.sample(rng)[1]) for _ in range(500)], (0.0, 0.0))
    assert wins >= 9


@pytest.mark.parametrize("survival", ["age", "front"])
def test_tells_out_of_order_and_failed_ones_are_survived(survival):
    rng = random.Random(0)
    controller = ParetoTournament(MIXERS, TWO, seed=0, population=20, survival=survival)
    running = []
    for n in range(300):
        proposal = controller.ask(n)
        controller.asked(n, proposal.trace, proposal.note)
        running.append(n)
        while len(running) > 7:
            done = running.pop(rng.randrange(len(running)))
            good = Outcome("completed", {"left": rng.random(), "right": rng.random()})
            controller.told(done, rng.choice([good, good, Outcome("failed", reason="lost"), Outcome("completed", {"left": 1.0})]))
    assert len(controller.population) == 20
    assert all(len(member.gains) == 2 for member in controller.population)


def test_it_is_evolution_with_another_tournament():
    assert issubclass(ParetoTournament, RegularizedEvolution)
    assert ParetoTournament(MIXERS, TWO, seed=0, population=200, tournament_frac=0.05).sample == 10


@pytest.mark.parametrize("knobs", [{"population": 20, **NSGA2}, {"population": 20, "criterion": "mean"}], ids=["nsga-ii", "mean"])
def test_the_contract_holds_with_other_knobs(knobs):
    check_controller("pareto-tournament-evolution", trials=50, **knobs)
