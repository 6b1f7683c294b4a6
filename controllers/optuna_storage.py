"""An Optuna storage that can be forked in no time, so that asking a sampler changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

STUDY = "archwright"
_EPOCH = datetime(2000, 1, 1)


class RefusedError(RuntimeError):
    """A sampler asked the storage for something that the controller does not leave to it."""


class ForkableStorage(BaseStorage):
    """One study in memory. A trial's id is its number, its place in ``trials``.

    Stored trials are never changed, only replaced; a fork therefore shares them and copies one list. Times are fixed, so
    nothing depends on the clock. What Optuna's interface has beyond the needs of samplers (further studies, user attributes,
    intermediate values, trials from outside) is refused, so that nothing is lost in silence.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self.directions = list(directions)
        self.trials: list[FrozenTrial] = []
        self.system_attrs: dict[str, Any] = {}

    def fork(self) -> ForkableStorage:
        """A storage with the same content; what happens to it does not touch this one."""
        other = ForkableStorage(self.directions)
        other.trials = list(self.trials)
        other.system_attrs = dict(self.system_attrs)
        return other

    def _replace(self, trial_id: int, **fields: Any) -> None:
        old = self.trials[trial_id]
        self.trials[trial_id] = make_trial(
            old.number,
            fields.get("state", old.state),
            fields.get("params", old.params),
            fields.get("distributions", old.distributions),
            fields.get("system_attrs", old.system_attrs),
            fields.get("values", old.values),
        )

    # --- the study -------------------------------------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        raise RefusedError("This storage holds exactly one study.")

    def delete_study(self, study_id: int) -> None:
        raise RefusedError("This storage holds exactly one study.")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        raise RefusedError("This storage keeps no user attributes.")

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.system_attrs[key] = value

    def get_study_id_from_name(self, study_name: str) -> int:
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        return STUDY

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.system_attrs

    def get_all_studies(self) -> list[FrozenStudy]:
        return [FrozenStudy(STUDY, None, {}, dict(self.system_attrs), 0, directions=self.directions)]

    # --- its trials ------------------------------------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None:
            raise RefusedError("Trials are added by the controller alone.")
        number = len(self.trials)
        self.trials.append(make_trial(number, TrialState.RUNNING, {}, {}, {}))
        return number

    def set_trial_param(self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution) -> None:
        old = self.trials[trial_id]
        params = {**old.params, param_name: distribution.to_external_repr(param_value_internal)}
        self._replace(trial_id, params=params, distributions={**old.distributions, param_name: distribution})

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self._replace(trial_id, state=state, values=values)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        raise RefusedError("Reports go to the study's stopper, not to Optuna.")

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        raise RefusedError("This storage keeps no user attributes.")

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._replace(trial_id, system_attrs={**self.trials[trial_id].system_attrs, key: value})

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.trials[trial_id]

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        if states == (TrialState.WAITING,):
            return []  # asked at every new trial; nothing ever waits here
        found = self.trials if states is None else [trial for trial in self.trials if trial.state in states]
        return copy.deepcopy(found) if deepcopy else list(found)


def make_trial(
    number: int,
    state: TrialState,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    system_attrs: dict[str, Any],
    values: Sequence[float] | None = None,
) -> FrozenTrial:
    """A trial as Optuna's samplers read it."""
    done = _EPOCH if state.is_finished() else None
    return FrozenTrial(number, state, None, _EPOCH, done, params, distributions, {}, system_attrs, {}, number, values=values)
