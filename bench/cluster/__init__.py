"""What the shared store costs, measured on a Redis of its own: ``python -m bench.cluster``; see docs/scaling.md."""
