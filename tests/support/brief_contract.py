"""The contract of every store without its tests of one value or key each, for stores that differ in other things."""

from __future__ import annotations

from learning_observer_kvs.testing.calls import CallsContract
from learning_observer_kvs.testing.changes import ChangesContract
from learning_observer_kvs.testing.contents import ContentsContract
from learning_observer_kvs.testing.reducers import ReducersContract
from learning_observer_kvs.testing.writes import WritesContract


class BriefContract(CallsContract, WritesContract, ReducersContract, ChangesContract):
    """Of contents, only whether all of them come back, at once."""

    test_every_kind_of_value_at_once_comes_back_in_one_read = (
        ContentsContract.test_every_kind_of_value_at_once_comes_back_in_one_read
    )
    test_hostile_keys_never_collide = ContentsContract.test_hostile_keys_never_collide
    test_hostile_keys_are_written_described_and_removed_one_by_one = (
        ContentsContract.test_hostile_keys_are_written_described_and_removed_one_by_one
    )
    test_no_character_of_a_prefix_has_a_special_meaning = (
        ContentsContract.test_no_character_of_a_prefix_has_a_special_meaning
    )
