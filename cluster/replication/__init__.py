"""Replication's policy: who is in sync with a partition that we lead, and how we follow one that we do not.

What stays true:
  - no threads, sockets, clocks or chance: methods are given facts and `now_ms`, and say what is to be done;
  - the ISR of a partition changes only through its controller; until it has answered, the larger of the ISR that is
    committed and the one that is asked for decides about the high watermark;
  - a follower cuts its log only as far as the leader it has been told to follow shows it to differ, or down to its own
    high watermark when nothing is known of epochs.

    isr.py              one partition that we lead: the ISR as committed, as asked for, and what an answer makes of it
    alter_partition.py  the changes of all of them on their way to the controller: one request at a time
    follower.py         one partition that we follow: fetching, asking the leader for offsets, failed
    truncation.py       where two logs part, from leader epochs; what to do when the leader does not have our end
    placement.py        which fetcher fetches what; which replicas are throttled

Records never come by here: the data plane fetches and appends them. Threads: the control loop owns everything here.
"""
