"""What a study found, as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..search_space.architecture import Architecture
from ..search_space.errors import StudyError
from ..search_space.outcomes import Objective
from .leaderboard import Row, leaderboard, pareto_front
from .ledger import Ledger
from .study import ARCHITECTURE, read_ledger, trial_folder


@dataclass(frozen=True)
class StudyResult:
    """A study's folder and what its journal adds up to."""

    folder: Path
    ledger: Ledger

    @classmethod
    def read(cls, folder: Path) -> StudyResult:
        """The result so far of the study in ``folder``, running or not."""
        return cls(folder, read_ledger(folder))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Mapping[str, Any]:
        return self.ledger.header.get("config", {})

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.ledger.objectives

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates completed, were stopped, failed, were infeasible, were duplicates."""
        return dict(self.ledger.counts)

    @property
    def note(self) -> str:
        """Why the study ended before its budget; empty when it did not."""
        return self.ledger.ended or ""

    @property
    def epochs_spent(self) -> int:
        return sum(trial.outcome.steps for trial in self.ledger.trials.values() if trial.outcome)

    @property
    def epochs_saved(self) -> float:
        """Share of the budget of all evaluated candidates, failures aside, that the stopper left unspent."""
        ended = [t.outcome for t in self.ledger.trials.values() if t.outcome and t.outcome.status in ("completed", "stopped")]
        full = len(ended) * self.config["epochs"]
        return 1 - sum(outcome.steps for outcome in ended) / full if full else 0.0

    def leaderboard(self, top: int | None = None) -> list[Row]:
        """Rows of rank, trial, status, metrics, epochs, seconds and digest: completed candidates first, best first."""
        return leaderboard(self.ledger, top)

    def best(self, top: int = 1) -> list[Row]:
        """The rows of the best completed candidates."""
        return [row for row in self.leaderboard(top) if row["status"] == "completed"]

    def pareto(self) -> list[Row]:
        """The rows of the completed candidates that no other one dominates."""
        front = {trial.number for trial in pareto_front(self.ledger.trials.values(), self.objectives)}
        return [row for row in self.leaderboard() if row["trial"] in front]

    def architecture(self, trial: int) -> Architecture:
        """The architecture of an evaluated candidate.

        Raises:
            StudyError: the candidate was never started.
        """
        path = trial_folder(self.folder, trial) / ARCHITECTURE
        try:
            return Architecture.from_json(path.read_text())
        except OSError:
            raise StudyError(f"Candidate {trial} of the study {self.folder} was never started; give an evaluated one.") from None
