"""ghn-embedding: its contract, what its embedding does not depend on, and how it ranks and helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from archwright.predictors.ghn_embedding import Embedder, GraphEmbedding
from archwright.predictors.hypernetwork.graph import graph_of
from archwright.predictors.registry import PREDICTORS
from archwright.search_space.choices import Choices
from archwright.search_space.compose import part, pooled_head
from archwright.search_space.errors import ConfigError
from archwright.search_space.protocols import Observation
from archwright.search_space.seeds import generator
from archwright.search_space.space import SPACES, Space
from archwright.testing import check_surrogate

from .test_hypernetwork_weights import relabelled, small

DATA = Path(__file__).parents[2] / "shared/data"
OUTSIDE = 3 * 16 * 9 + 2 * 16 + 2 * 16 + 16 * 10 + 10  # parameters of stem, norm and head
CELLS: Space = SPACES["conv-cells"].obj.with_params(channels=16, stages=1, cells=1)


def test_it_keeps_the_contract_of_surrogates():
    check_surrogate("ghn-embedding", regressor="ridge")


@pytest.mark.slow
@pytest.mark.parametrize("regressor", ["svr", "rf"])
def test_it_keeps_the_contract_with_the_other_regressors(regressor):
    check_surrogate("ghn-embedding", regressor=regressor)


@pytest.mark.parametrize("pool", ["mean", "mean+max", "last"])
def test_the_embedding_does_not_depend_on_names_company_or_other_words(pool):
    architectures = [small(), *(CELLS.sample(generator(0, "probe", number))[0] for number in range(4))]
    together = Embedder(None, pool, 16, 0)(architectures)
    assert together.shape == (5, 32 if pool == "mean+max" else 16)
    assert len({tuple(row) for row in together}) == 5
    embedder = Embedder(None, pool, 16, 0)
    for row, architecture in zip(together, architectures, strict=True):
        np.testing.assert_array_equal(embedder([architecture])[0], row)
        np.testing.assert_allclose(embedder([relabelled(architecture, 1)])[0], row, rtol=0, atol=1e-6)


def test_another_seed_reads_graphs_otherwise_and_bad_knobs_are_refused(tmp_path):
    one, other = (Embedder(None, "mean", 16, seed)([small()]) for seed in (0, 1))
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(ConfigError, match='"pool"'):
        GraphEmbedding(seed=0, pool="sum")
    with pytest.raises(ConfigError, match="cannot be read"):
        GraphEmbedding(seed=0, hypernetwork=str(tmp_path / "missing"))


def recorded(count: int) -> list[Observation]:
    """Cells drawn at random, with their recorded accuracy on CIFAR-10."""
    if not (DATA / "nas/nasbench201.parquet").exists():
        pytest.skip("the recorded accuracies of ../shared/data/nas are not there")
    from archwright.evaluators.tables.registry import load_table

    table = load_table("nasbench201", {"dataset": "cifar10"})
    metric = table.metrics[table.objectives[0].metric]
    found = []
    for number in range(count):
        architecture, trace = table.space.sample(generator(3, "probe", number))
        found.append(Observation((), {}, float(metric[table.row(architecture)]), trace, CELLS.replay(trace)))
    return found


def size_of(seen: Observation) -> list[float]:
    """Logarithm of the parameters, and depth."""
    assert seen.architecture is not None
    graph = graph_of(seen.architecture)
    cell = sum({"conv-1x1": 1, "conv-3x3": 9}.get(node.block, 0) * 16**2 for node in graph.nodes)
    return [np.log(cell + OUTSIDE), float(max(graph.depths))]


def tau(told: np.ndarray, asked: list[Observation]) -> float:
    return float(kendalltau(told, [seen.final for seen in asked]).statistic)


@pytest.mark.slow
def test_it_ranks_held_out_cells_better_than_size_and_depth():
    """Six draws of 100 to learn from, 150 to rank: the same regressor on the embedding and on (log params, depth)."""
    pool = recorded(250)
    sizes = np.array([size_of(seen) for seen in pool])
    rows = Embedder(None, "mean+max", 64, 5)([seen.architecture for seen in pool if seen.architecture is not None])
    gains = []
    for draw in range(6):
        order = np.random.default_rng(draw).permutation(len(pool))
        taus = [ranked(pool, features, order, draw) for features in (rows, sizes)]
        gains.append(taus[0] - taus[1])
    assert np.mean(gains) > 0.03, gains
    assert min(gains) > -0.02, gains


def ranked(pool: list[Observation], features: np.ndarray, order: np.ndarray, seed: int) -> float:
    """Kendall's tau on the last candidates of ``order`` of ridge regression on ``features`` of the first 100."""
    table = {id(seen.architecture): row for seen, row in zip(pool, features, strict=True)}
    surrogate = GraphEmbedding(seed=seed, regressor="ridge")
    surrogate.embedder = lambda given: np.array([table[id(one)] for one in given])  # type: ignore[assignment]
    surrogate.fit([pool[index] for index in order[:100]])
    asked = [pool[index] for index in order[100:]]
    return tau(np.array([one.mean for one in surrogate.predict_many(asked) or ()]), asked)


def _mixed(choose: Choices):
    """A chain of one to six convolutions."""
    from archwright.search_space.architecture import Architecture, Node

    nodes = [Node("input", "input"), part("conv-stem", "input", name="stem", width=8)]
    for here in choose.repeat("layer", 1, 6):
        nodes.append(part(here.one_of("op", ["conv-1x1", "conv-3x3", "avg-pool-3x3"]), nodes[-1].name, name=here.path))
    nodes.append(part(pooled_head().block, nodes[-1].name, name="head"))
    return Architecture(tuple(nodes), "head")


def test_beside_a_curve_the_embedding_costs_nothing_beyond_noise():
    """Paired over candidates: squared errors of curve-svr with and without the embedding, half of the finals said by the graph."""
    space, rng = Space("test-chains", _mixed), np.random.default_rng(0)
    embedder, seen = Embedder(None, "mean", 16, 0), []
    for number in range(120):
        architecture, _ = space.sample(generator(4, "probe", number))
        kernels = sum(node.block == "conv-3x3" for node in architecture.nodes)
        hidden = float(rng.normal())
        top = 0.6 + 0.05 * kernels / 3 + 0.05 * hidden
        curve = tuple(top - (0.3 + 0.05 * hidden) * step**-0.7 + 0.01 * float(rng.normal()) for step in range(1, 11))
        seen.append(Observation(curve, {}, top, None, architecture))
    rows = embedder([one.architecture for one in seen])
    errors = []
    for features in (None, rows):
        told = [one if features is None else _with(one, row) for one, row in zip(seen, rows, strict=True)]
        predictor = PREDICTORS["curve-svr"].obj(seed=0)
        predictor.fit(told[:60])
        asked = [Observation(one.curve[:3], one.features) for one in told[60:]]
        errors.append(np.array([predictor.predict(one).mean - other.final for one, other in zip(asked, seen[60:], strict=True)]) ** 2)
    change = errors[1] - errors[0]
    assert change.mean() <= 2 * change.std(ddof=1) / np.sqrt(len(change)), (errors[0].mean(), errors[1].mean())


def _with(seen: Observation, row: np.ndarray) -> Observation:
    return Observation(seen.curve, {f"ghn/{index}": float(value) for index, value in enumerate(row)}, seen.final)
