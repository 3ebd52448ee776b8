"""What happens around a coordinator, as rules of a hypothesis machine: replication that waits, a disk that fails."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from pylog.errors import ErrorCode
from tests.transcripts.shard_driver import ShardDriver

ERRORS = (None, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.KAFKA_STORAGE_ERROR)


class ShardMachine(RuleBasedStateMachine):
    """A machine gives it its driver."""

    driver: ShardDriver

    @rule(commits=st.booleans())
    def replication(self, commits: bool) -> None:
        self.driver.commits = commits
        if commits:
            self.driver.commit()

    @rule(error=st.sampled_from(ERRORS))
    def disk(self, error: ErrorCode | None) -> None:
        self.driver.write_error = error

    def fail_over(self) -> None:
        """The next coordinator finds what is committed, nothing else; nobody is left waiting."""
        self.driver.restart(cut=True)
        waiting = self.driver.asked.keys() - self.driver.answers.keys()
        assert not waiting, f"left waiting: {waiting}"
