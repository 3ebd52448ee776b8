"""Where two logs part."""

import pytest

from cluster.replication.truncation import NO_END, NO_EPOCH, EpochEnd, OwnLog, diverging_offset, offset_before_following

OWN = OwnLog(end_offset=20, high_watermark=8, latest_epoch=4)


@pytest.mark.parametrize(
    ("own", "offset"),
    [
        (OwnLog(20, 8, 4), None),  # the leader says where
        (OwnLog(20, 8, NO_EPOCH), 8),
        (OwnLog(8, 8, NO_EPOCH), None),
        (OwnLog(0, 0, NO_EPOCH), None),
    ],
)
def test_without_epochs_only_what_is_committed_is_kept(own: OwnLog, offset: int | None) -> None:
    assert offset_before_following(own) == offset


@pytest.mark.parametrize(
    ("leader", "own_at_epoch", "offset"),
    [
        (EpochEnd(4, 15), EpochEnd(4, 20), 15),  # the same epoch ends earlier there
        (EpochEnd(3, 18), EpochEnd(3, 12), 12),  # and here
        (EpochEnd(3, 18), EpochEnd(2, 10), 10),  # an epoch we do not have: back to the one before
        (EpochEnd(3, 18), EpochEnd(NO_EPOCH, NO_END), 18),  # none so old: what the leader says
        (EpochEnd(NO_EPOCH, 18), EpochEnd(4, 20), 18),
        (EpochEnd(NO_EPOCH, NO_END), EpochEnd(NO_EPOCH, NO_END), 8),  # the leader knows nothing: what is committed
        (EpochEnd(4, 30), EpochEnd(4, 20), 20),  # never above the own end
    ],
)
def test_logs_agree_up_to_the_end_of_the_last_epoch_both_have(
    leader: EpochEnd, own_at_epoch: EpochEnd, offset: int
) -> None:
    assert diverging_offset(leader, OWN, own_at_epoch) == offset
