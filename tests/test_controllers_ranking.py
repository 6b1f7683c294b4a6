"""The ranking of one fit: who joins, in what order, and how far climbing leads."""

import numpy as np
import pytest

from archwright.controllers.candidates import Candidates
from archwright.controllers.ranking import Ranking
from archwright.controllers.surrogates import trace_of
from archwright.search_space.choices import trace_key
from archwright.search_space.seeds import generator
from archwright.testing.toys import MIXERS, mixers_score


class Oracle:
    """Surrogates that know every score, and count whom they were asked about."""

    def __init__(self):
        self.asked = []

    def predictions(self, found):
        if not found:
            return None
        self.asked += [trace_key(trace_of(seen)) for seen in found]
        return np.array([[mixers_score(trace_of(seen))] for seen in found]), np.ones((len(found), 1))


@pytest.fixture
def source():
    return Candidates(MIXERS, 0, 48)


@pytest.fixture
def drawn(source):
    return [source.drawn(generator(0, "probe", number)) for number in range(12)]


def made(met=()):
    oracle = Oracle()
    return oracle, Ranking(oracle, lambda mean, spread: mean[:, 0], set(met))


def scores(ranking):
    return [mixers_score(trace_of(seen)) for seen in ranking.best_first()]


def test_the_largest_acquisition_comes_first(drawn):
    _, ranking = made()
    ranking.add(drawn)
    assert scores(ranking) == sorted(scores(ranking), reverse=True)
    assert len(scores(ranking)) == len({trace_key(trace_of(seen)) for seen in drawn})


def test_where_all_promise_the_same_the_mean_decides(drawn):
    ranking = Ranking(Oracle(), lambda mean, spread: np.zeros(len(mean)), set())
    ranking.add(drawn)
    assert scores(ranking) == sorted(scores(ranking), reverse=True)


def test_nobody_is_predicted_twice_and_who_was_met_never_joins(source, drawn):
    met = {trace_key(trace_of(seen)) for seen in drawn[:4]}
    oracle, ranking = made(met)
    ranking.add(drawn)
    ranking.add(drawn)
    for _ in range(3):
        ranking.climb(lambda seen: [*source.around(trace_of(seen)), *drawn], 2)
    assert len(oracle.asked) == len(set(oracle.asked))
    assert not met & set(oracle.asked)
    assert not met & {trace_key(trace_of(seen)) for seen in ranking.best_first()}


def test_each_climb_starts_from_the_best_whose_neighbours_have_not_joined(source, drawn):
    _, ranking = made()
    ranking.add(drawn)
    started = []

    def around(seen):
        started.append(trace_key(trace_of(seen)))
        return source.around(trace_of(seen))

    best = scores(ranking)[0]
    for _ in range(6):
        ranking.climb(around, 1)
        assert scores(ranking)[0] >= best
        best = scores(ranking)[0]
    assert len(set(started)) == len(started) == 6
    assert best > max(mixers_score(trace_of(seen)) for seen in drawn)


def test_a_surrogate_that_has_seen_too_little_ranks_nobody(drawn):
    class Silent:
        def predictions(self, found):
            return None

    ranking = Ranking(Silent(), lambda mean, spread: mean[:, 0], set())
    ranking.add(drawn)
    ranking.climb(lambda seen: drawn, 3)
    assert ranking.best_first() == []
