"""The bench: what a connection and a delivery cost, Stillhere beside the peers that do the same job.

``python -m bench --help`` says how to run it, ``docs/performance.md`` what is measured and why so.
"""
