"""REINFORCE: the policy scores what it plays, learns what it is told, and does not collapse."""

import math
import random

import pytest

from archwright.controllers.policy import Policy
from archwright.controllers.policy_options import BINS, Options
from archwright.controllers.reinforce import Baseline, Reinforce
from archwright.search_space.choices import Integer, OneOf, Real
from archwright.search_space.outcomes import Objective, Outcome
from archwright.testing.toys import DYNAMIC, GRID, MIXERS

SCORE = (Objective("score"),)
DOMAINS = [
    OneOf((1, True, "1", None, 2.5)),
    Integer(0, 5),
    Integer(1, 1000, log=True),
    Integer(3, 300, step=7),
    Real(-1.0, 1.0),
    Real(1e-5, 1.0, log=True),
    Real(0.0, 1.0, step=0.25),
    Real(0.0, 1.0, step=0.01),
]


def _play(policy, space, seed, explore=0.0):
    played = []
    trace = space.run(policy.acting(random.Random(seed), explore, played))[1]
    return trace, sum(played)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_options_cover_their_domain(domain):
    options = Options.of(domain)
    rng = random.Random(0)
    assert len(set(options.names())) == len(options.names()) <= max(BINS, 5)
    for index in range(len(options.names())):
        for _ in range(20):
            value = options.draw(index, rng)
            assert domain.permits(value)
            if options.values is not None or isinstance(domain, Real):
                assert abs(options.index(value) - index) <= (domain == Real(0.0, 1.0, step=0.01))
    for _ in range(200):
        assert 0 <= options.index(domain.draw(rng)) < len(options.names())


def test_every_value_of_a_binned_integer_can_be_drawn():
    options, rng = Options.of(Integer(3, 300, step=7)), random.Random(0)
    drawn = {options.draw(index, rng) for index in range(BINS) for _ in range(300)}
    assert drawn == set(Integer(3, 300, step=7).values())


def test_the_score_of_a_trace_is_the_probability_it_was_played_with():
    policy = Policy(seed=1, hidden=16, rate=0.05)
    for seed in range(10):
        trace, played = _play(policy, DYNAMIC, seed)
        policy._meet(trace)
        assert float(policy.score(trace)[0].detach()) == pytest.approx(played, abs=1e-9)
        policy.improve(trace, 1.0, 0.01, played)


def test_probabilities_of_all_points_sum_to_one():
    policy = Policy(seed=2, hidden=8, rate=0.1)
    traces = [trace for _, trace in GRID.enumerate()]
    for trace in traces:
        policy._meet(trace)
    policy.improve(traces[5], 2.0, 0.0, None)
    assert sum(math.exp(float(policy.score(trace)[0].detach())) for trace in traces) == pytest.approx(1.0)


def test_a_positive_advantage_makes_a_trace_likelier_and_a_negative_one_less_likely():
    for advantage in (1.0, -1.0):
        policy = Policy(seed=0, hidden=16, rate=0.02)
        trace, before = _play(policy, MIXERS, 0)
        policy.improve(trace, advantage, 0.0, before)
        assert (float(policy.score(trace)[0].detach()) - before) * advantage > 0


def test_rows_do_not_depend_on_the_order_in_which_roles_are_met():
    one, other = Policy(0, 8, 0.01), Policy(0, 8, 0.01)
    traces = [_play(one, DYNAMIC, seed)[0] for seed in range(4)]
    for trace in traces:
        one._meet(trace)
    for trace in reversed(traces):
        other._meet(trace)
    assert list(one.rows) != list(other.rows)
    for trace in traces:
        assert float(one.score(trace)[0].detach()) == pytest.approx(float(other.score(trace)[0].detach()), abs=1e-12)


def test_layers_share_what_they_learn():
    policy = Policy(seed=0, hidden=16, rate=0.05)
    trace = next(t for t in (_play(policy, MIXERS, s)[0] for s in range(100)) if t.values_by_path()["layer"] == 1)
    before = len(policy.rows)
    policy.improve(trace, 1.0, 0.0, None)
    met = len(policy.rows)
    deep = next(t for t in (_play(policy, MIXERS, s)[0] for s in range(100)) if t.values_by_path()["layer"] == 6)
    policy.improve(deep, 1.0, 0.0, None)
    assert before == 0
    assert len(policy.rows) == met


def test_the_ratio_to_the_policy_that_asked_is_clipped():
    trace, played = _play(Policy(0, 8, 0.01), MIXERS, 0)
    moved = {}
    for then in (played, played - 50.0, played + 50.0):
        policy = Policy(0, 8, 0.01)
        policy._meet(trace)
        policy.improve(trace, 1.0, 0.0, then)
        moved[then] = float(policy.moments[1][0].norm())
    assert moved[played - 50.0] == pytest.approx(1.5 * moved[played])
    assert moved[played + 50.0] == pytest.approx(0.0, abs=1e-12)


def test_advantages_are_free_of_scale():
    rng = random.Random(0)
    values = [rng.random() for _ in range(50)]
    small, large = Baseline(0.9), Baseline(0.9)
    for value in values:
        small.heard(value)
        large.heard(1e6 * value - 3e6)
    assert small.advantage(0.8) == pytest.approx(large.advantage(0.8e6 - 3e6))
    assert Baseline(0.9).advantage(1.0) == 0.0


def test_failures_count_as_worse_than_the_worst_and_repeats_as_a_loss():
    controller = Reinforce(MIXERS, SCORE, seed=0)
    for n, score in enumerate([0.2, 0.9, 0.5, 0.6]):
        proposal = controller.ask(n)
        controller.asked(n, proposal.trace, proposal.note)
        controller.told(n, Outcome("completed", {"score": score}))
    worst = controller.baselines[0].advantage(0.2)
    assert controller._advantage(Outcome("failed", reason="NaN")) == pytest.approx(worst - 1.0)
    assert controller._advantage(Outcome("infeasible", reason="large")) == pytest.approx(worst - 1.0)
    best_again = Outcome("completed", {"score": 0.9}).as_duplicate_of(1)
    assert controller._advantage(best_again) < 0
    assert controller._advantage(Outcome("failed").as_duplicate_of(0)) < worst - 1.0


@pytest.mark.parametrize("seed", range(5))
def test_a_small_space_is_covered_and_not_stalled_in(seed):
    controller = Reinforce(GRID, SCORE, seed=seed)
    seen = {}
    for n in range(200):
        proposal = controller.ask(n)
        controller.asked(n, proposal.trace, proposal.note)
        outcome = Outcome("completed", {"score": float("cd" in str(proposal.trace)) + 0.1 * len(str(proposal.trace))})
        repeat = proposal.trace in seen
        controller.told(n, outcome.as_duplicate_of(seen[proposal.trace]) if repeat else outcome)
        seen.setdefault(proposal.trace, n)
    assert len(seen) == 16


def test_few_repeats_before_a_space_is_exhausted():
    """A signal for repeats keeps the policy from collapsing on the best point it knows."""
    repeats = 0
    for seed in range(3):
        controller, seen = Reinforce(MIXERS, SCORE, seed=seed), {}
        for n in range(150):
            proposal = controller.ask(n)
            controller.asked(n, proposal.trace, proposal.note)
            values = proposal.trace.values_by_path()
            outcome = Outcome("completed", {"score": float(values["layer"] == 1) + float(values["width"] == 64)})
            repeat = proposal.trace in seen
            repeats += repeat
            controller.told(n, outcome.as_duplicate_of(seen[proposal.trace]) if repeat else outcome)
            seen.setdefault(proposal.trace, n)
    assert repeats < 30
