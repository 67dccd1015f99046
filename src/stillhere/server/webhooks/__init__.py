"""Webhooks: transitions posted to servers of the application, at least once, in order per user.

::

    log of the store ──▶ Lane (one per partition: a bounded window) ──▶ Courier (one per hook) ──▶ Sender ──▶ endpoint
                                                                          │
                          mark of the hook (how far it came) ◀────────────┼──▶ dead letters (what was given up)

Nothing is queued: a hook that is behind reads on from the log when it has room.
:mod:`~stillhere.server.webhooks.office` decides which node delivers.
"""
