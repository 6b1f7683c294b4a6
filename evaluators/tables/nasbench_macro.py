"""NAS-Bench-Macro: every chain of its space, trained on CIFAR-10."""

from __future__ import annotations

from ...search_space.architecture import Architecture
from ...search_space.outcomes import Objective
from ...search_space.space import SPACES
from ...search_space.spaces.mobile_chain import MACRO, chain_options
from .files import find, read
from .registry import table
from .table import Table

REMARK = "NAS-Bench-Macro records test accuracies alone, so a search on it sees the very numbers that it is judged by."
_CODE = {option: str(code) for code, option in enumerate(MACRO.blocks)}


@table("nasbench-macro", paper="Prioritized Architecture Sampling with Monto-Carlo Tree Search (2021, 2103.11922)")
def nasbench_macro(data: str | None = None) -> Table:
    """All 6,561 chains of ``nasbench-macro`` on CIFAR-10, by their test accuracy (percent, mean of three); from ``nasbench_macro.parquet``.

    ``params`` and ``flops`` (multiply-adds) are those published and known before training. An evaluation takes virtual time in
    proportion to the multiply-adds, 1 on average. Chains that differ in the place of an identity alone are one network
    with one record: 3,969 networks. A row of the file is a chain: ``arch`` (eight digits: 0 identity, 1 and 2 inverted residuals of
    3x3 with expansion 3 and 5x5 with 6), ``mean_test_acc``, ``params``, ``flops``.

    Args:
        data: folder of the files.

    Raises:
        ConfigError: the file is not found or not what it was.
    """
    frame = read(find("nasbench_macro.parquet", data), ["arch", "mean_test_acc", "params", "flops"])
    flops = frame["flops"].to_numpy(float)
    return Table(
        name="nasbench-macro",
        space=SPACES["nasbench-macro"].obj,
        rows={code: number for number, code in enumerate(frame["arch"].tolist())},
        key=chain_code,
        metrics={"mean_test_acc": frame["mean_test_acc"].to_numpy(float)},
        objectives=(Objective("mean_test_acc"),),
        known={"params": frame["params"].to_numpy(float), "flops": flops},
        seconds=flops / flops.mean(),
        remark=REMARK,
    )


def chain_code(architecture: Architecture) -> str | None:
    """The benchmark's name of an architecture, one digit a layer; None for one of another space."""
    options = chain_options(MACRO, architecture)
    return None if options is None else "".join(map(_CODE.__getitem__, options))
