"""The parts of training: recipe, optimizer groups, schedule, batches."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from archwright import Task
from archwright.evaluators.training.batches import DeviceSplit, random_batches, steps_per_epoch
from archwright.evaluators.training.loop import make_loss
from archwright.evaluators.training.optim import make_optimizer, rate_factor
from archwright.evaluators.training.recipe import KNOBS, Recipe

CPU = torch.device("cpu")


def test_every_field_of_the_recipe_has_a_domain_that_permits_its_default():
    assert set(KNOBS) == set(Recipe.__dataclass_fields__)
    assert all(KNOBS[name].permits(getattr(Recipe(), name)) for name in KNOBS)


def test_weight_decay_spares_biases_norms_and_marked_parameters():
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    network[2].weight.no_weight_decay = True
    decayed, spared = make_optimizer(network, Recipe(weight_decay=0.3)).param_groups
    assert [id(p) for p in decayed["params"]] == [id(network[0].weight)]
    assert len(spared["params"]) == 5
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)


def test_the_rate_warms_up_then_falls_along_a_cosine_to_zero():
    recipe = Recipe(warmup=0.1)
    factors = [rate_factor(step, 100, recipe) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in pairwise(factors[10:]))


def test_a_constant_rate_stays_after_its_warm_up():
    assert {rate_factor(step, 50, Recipe(schedule="constant", warmup=0.0)) for step in range(50)} == {1.0}


def test_a_schedule_of_one_step_has_a_rate():
    assert rate_factor(0, 1, Recipe()) == 1.0


@pytest.mark.parametrize(("rows", "size", "sizes"), [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1])])
def test_batches_hold_every_row_once_but_for_a_last_one_alone(rows, size, sizes):
    batches = list(random_batches(rows, size, torch.Generator().manual_seed(0), CPU))
    assert [len(batch) for batch in batches] == sizes
    assert steps_per_epoch(rows, size) == len(sizes)
    assert len(set(torch.cat(batches).tolist())) == sum(sizes)


def test_uint8_samples_are_scaled_when_read():
    x = np.random.default_rng(0).integers(0, 256, size=(60, 1, 4, 4), dtype=np.uint8)
    task = Task.from_arrays(x, np.arange(60) % 2)
    read, _ = DeviceSplit(task, task.train, CPU).at(slice(None))
    assert read.dtype == torch.float32
    assert float(read.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(read.std()) == pytest.approx(1.0, abs=1e-2)


def test_losses_by_name_and_a_users_own():
    x = np.random.default_rng(0).normal(size=(60, 2))
    outputs, classes = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    plain = make_loss(Task.from_arrays(x, np.arange(60) % 2))
    assert float(plain(outputs, classes)) == pytest.approx(float(-outputs.log_softmax(1)[range(5), classes].mean()))
    smooth = make_loss(Task.from_arrays(x, np.arange(60) % 2), 0.1)
    assert float(smooth(outputs, classes)) != float(plain(outputs, classes))
    squared = make_loss(Task.from_arrays(x, x[:, 0]))
    assert float(squared(outputs, outputs + 2)) == pytest.approx(4.0)
    own = make_loss(Task.from_arrays(x, x[:, 0], loss=lambda outputs, targets: (outputs - targets).abs().max()))
    assert float(own(outputs, outputs + 3)) == pytest.approx(3.0)
