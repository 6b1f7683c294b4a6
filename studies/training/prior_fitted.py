"""Training of the prior-fitted network on made-up studies.

Run ``python studies/training/prior_fitted.py --steps 20000``: about 0.35 s a step on one core of 2020. Writes the weights (safetensors)
and beside them a card (JSON: versions, seed, losses, figures on made-up studies never trained on). Step k draws its studies from
(seed, k) alone, and every ``--save-every`` steps all is kept in ``OUT.checkpoint``: a run that was stopped goes on there and ends at
the same weights, or at once with ``--finish``. ``--rows`` and ``--steps`` make it smaller, for a trial.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from archwright.predictors.prior_fitted.network import RowTransformer, save_network
from archwright.predictors.prior_fitted.predictor import WEIGHTS
from archwright.predictors.prior_fitted.sampling import ROWS, draw_batch
from archwright.search_space.seeds import derive_seed
from archwright.studies.benchmarks._results import circumstances
from archwright.studies.training.held_out import figures, negative_log_likelihood

RATE, DECAY, WARM_UP, CLIP, PARTS = 8e-4, 0.01, 300, 1.0, 4


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    out = Path(options.out)
    began = time.perf_counter()
    sizes = {"width": options.width, "layers": options.layers, "heads": options.heads, "hidden": options.hidden}
    setting = {"steps": options.steps, "seed": options.seed, "rows": options.rows, "parts": options.parts, **sizes}
    checkpoint = out.with_suffix(".checkpoint")
    network, losses = train(setting, checkpoint=checkpoint, save_every=options.save_every, until=0 if options.finish else None)
    save_network(network, out)
    card = {
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        **setting,
        "steps_done": len(losses),
        "parameters": sum(value.numel() for value in network.parameters()),
        "last_run_minutes": round((time.perf_counter() - began) / 60, 1),
        "loss_nats": _thinned(losses),
        "held_out": figures(network, seed=options.seed, batches=options.held_out),
        **circumstances(),
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    Console().print_json(data={key: card[key] for key in ("steps_done", "parameters", "last_run_minutes", "held_out")})


def train(
    setting: Mapping[str, int], *, checkpoint: Path, save_every: int = 500, until: int | None = None
) -> tuple[RowTransformer, list[float]]:
    """Train from the checkpoint, where there is one of the same setting.

    Args:
        setting: ``steps`` in all, ``seed``, ``rows`` of a step, ``parts`` of it that each have a size of study of their own, and the
            sizes of the network.
        checkpoint: written every ``save_every`` steps.
        until: stop after this step, by default the last.

    Returns:
        the network and the loss of every step.
    """
    steps, seed = setting["steps"], setting["seed"]
    torch.manual_seed(derive_seed(seed, "init") % 2**31)
    network = RowTransformer(**{name: size for name, size in setting.items() if name not in ("steps", "seed", "rows", "parts")})
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98))
    losses = _resumed(checkpoint, network, optimizer, setting)
    with _progress() as progress:
        task = progress.add_task("training", total=steps, completed=len(losses), loss=math.nan)
        for step in range(len(losses), steps if until is None else until):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, steps)
            optimizer.zero_grad()
            rng = np.random.default_rng(derive_seed(seed, "fit", step))
            losses.append(sum(_learned_from(network, rng, setting) for _ in range(setting["parts"])))
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            progress.update(task, advance=1, loss=float(np.mean(losses[-100:])))
            if (step + 1) % save_every == 0 or step + 1 == steps:
                _save(checkpoint, network, optimizer, losses, setting)
    return network, losses


def _learned_from(network: RowTransformer, rng: np.random.Generator, setting: Mapping[str, int]) -> float:
    """Add the gradient of one part of a step; its share of the loss."""
    parts = setting["parts"]
    loss = negative_log_likelihood(network, draw_batch(rng, rows=setting["rows"] // parts)) / parts
    loss.backward()
    return loss.item()


def rate_at(step: int, steps: int) -> float:
    """The learning rate: a linear warm-up, then half a cosine to 0."""
    warm = min(WARM_UP, max(1, steps // 10))
    return RATE * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _resumed(checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, setting: Mapping[str, int]) -> list[float]:
    if not checkpoint.exists():
        return []
    kept = torch.load(checkpoint, weights_only=True)
    if kept["setting"] != dict(setting):
        raise SystemExit(f"{checkpoint} was written with {kept['setting']}, not {dict(setting)}; remove it to begin anew.")
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    return list(kept["losses"])


def _save(checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, losses: list[float], setting: Mapping[str, int]) -> None:
    kept = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses, "setting": dict(setting)}
    fresh = checkpoint.with_suffix(".new")
    torch.save(kept, fresh)
    fresh.replace(checkpoint)


def _thinned(losses: Sequence[float], points: int = 20) -> list[float]:
    """Means over equal parts of the training."""
    return [round(float(np.mean(part)), 4) for part in np.array_split(np.array(losses), min(points, len(losses)))]


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    return Progress(*columns, TimeRemainingColumn())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=ROWS, help="candidates in each step")
    parser.add_argument("--parts", type=int, default=PARTS, help="of a step, each of studies of one size")
    parser.add_argument("--finish", action="store_true", help="train no further, write the weights of the checkpoint as they are")
    for name, size in RowTransformer().sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, help="of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=40, help="batches of made-up studies for the figures, of each size of context")
    parser.add_argument("--out", default=str(WEIGHTS))
    return parser


if __name__ == "__main__":
    main()
