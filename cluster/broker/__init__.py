"""The broker: everything of the lower layers built, wired and driven.

What stays true:
- one control thread (`loop.py`) owns all control state: metadata cache, controller context, coordinators, hosted
  replicas. Requests reach it as upcalls of the C engine, everything else through its inbox;
- the maintenance thread (`maintenance.py`) does what takes long (flush, retention, unlinking) and owns nothing: it
  works on logs through functions any thread may call, and tells the control thread through the inbox;
- the main thread only waits for signals.
"""
