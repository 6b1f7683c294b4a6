"""The storage that a sampler is asked in: forks share what is stored, and what the controller keeps to itself is refused."""

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from archwright.controllers.optuna_storage import ForkableStorage, RefusedError, make_trial


@pytest.fixture
def storage():
    found = ForkableStorage([StudyDirection.MAXIMIZE])
    found.create_new_trial(0)
    return found


def test_a_fork_leaves_the_original_as_it_was(storage):
    fork = storage.fork()
    fork.create_new_trial(0)
    fork.set_trial_state_values(0, TrialState.COMPLETE, [1.0])
    fork.set_study_system_attr(0, "generation", 3)
    assert [trial.state for trial in storage.trials] == [TrialState.RUNNING]
    assert [trial.state for trial in fork.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert (storage.system_attrs, fork.system_attrs) == ({}, {"generation": 3})


@pytest.mark.parametrize(
    ("word", "args", "sentence"),
    [
        ("create_new_study", ([StudyDirection.MAXIMIZE],), "exactly one study"),
        ("delete_study", (0,), "exactly one study"),
        ("set_study_user_attr", (0, "key", 1), "no user attributes"),
        ("set_trial_user_attr", (0, "key", 1), "no user attributes"),
        ("set_trial_intermediate_value", (0, 1, 0.5), "stopper, not to Optuna"),
        ("create_new_trial", (0, make_trial(0, TrialState.RUNNING, {}, {}, {})), "by the controller alone"),
    ],
)
def test_what_is_not_left_to_samplers_is_refused_and_changes_nothing(storage, word, args, sentence):
    before = list(storage.trials), dict(storage.system_attrs)
    with pytest.raises(RefusedError, match=sentence):
        getattr(storage, word)(*args)
    assert (storage.trials, storage.system_attrs) == before
