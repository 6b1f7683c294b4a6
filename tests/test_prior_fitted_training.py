"""The training script: it goes on where it stopped, and even a short training is worth something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from archwright.predictors.prior_fitted.network import RowTransformer, load_network, save_network
from archwright.predictors.prior_fitted.sampling import draw_batch
from archwright.studies.training import prior_fitted
from archwright.studies.training.held_out import figures

SMALL = ["--rows", "160", "--parts", "2", "--width", "16", "--layers", "1", "--heads", "2", "--hidden", "16", "--held-out", "1"]


def test_a_training_that_was_stopped_ends_at_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, halves = (tmp_path / name for name in ("whole.safetensors", "halves.safetensors"))
    prior_fitted.main(["--steps", "6", "--out", str(whole), *SMALL])
    drawn = []

    def power_cut(*args, **settings):
        drawn.append(1)
        if len(drawn) > 8:
            raise KeyboardInterrupt
        return draw_batch(*args, **settings)

    monkeypatch.setattr(prior_fitted, "draw_batch", power_cut)
    with pytest.raises(KeyboardInterrupt):
        prior_fitted.main(["--steps", "6", "--save-every", "2", "--out", str(halves), *SMALL])
    monkeypatch.setattr(prior_fitted, "draw_batch", draw_batch)
    prior_fitted.main(["--steps", "6", "--finish", "--out", str(halves), *SMALL])
    assert json.loads(halves.with_suffix(".json").read_text())["steps_done"] == 4
    prior_fitted.main(["--steps", "6", "--out", str(halves), *SMALL])
    first, second = load_file(whole), load_file(halves)
    assert all(torch.equal(first[name], second[name]) for name in first)
    card = json.loads(halves.with_suffix(".json").read_text())
    assert {"steps", "seed", "loss_nats", "held_out", "torch", "date"} <= set(card)
    with pytest.raises(SystemExit, match="remove it"):
        prior_fitted.main(["--steps", "7", "--out", str(halves), *SMALL])


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [prior_fitted.rate_at(step, 4000) for step in range(4000)]
    assert max(rates) == pytest.approx(prior_fitted.RATE, rel=0.02)
    assert rates[0] < 0.01 * prior_fitted.RATE
    assert rates[-1] < 1e-5 * prior_fitted.RATE


def test_the_network_of_the_default_sizes_fits_into_five_megabytes(tmp_path: Path):
    network = RowTransformer()
    save_network(network, tmp_path / "full.safetensors")
    assert (tmp_path / "full.safetensors").stat().st_size < 5e6
    again = load_network(tmp_path / "full.safetensors")
    assert again.sizes == network.sizes
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), again.parameters(), strict=True))


@pytest.mark.slow
def test_a_short_training_beats_the_last_value_and_knows_how_sure_it_is(tmp_path: Path):
    sizes = {"width": 32, "layers": 2, "heads": 2, "hidden": 64}
    setting = {"steps": 120, "seed": 0, "rows": 512, "parts": 2, **sizes}
    network, _ = prior_fitted.train(setting, checkpoint=tmp_path / "checkpoint")
    before, after = (figures(each, seed=1, batches=3) for each in (RowTransformer(**sizes), network))
    for size in ("0", "4", "16", "64", "128"):
        assert after[size]["loss_nats"] < before[size]["loss_nats"], size
        assert after[size]["error_to_last"] < 0.95, size
        assert size == "0" or 0.8 < after[size]["coverage"] < 0.97, size
    assert after["128"]["error_to_last"] < after["0"]["error_to_last"], "finished candidates of the study help"
