"""The parts of scripts/bench_serving.py and scripts/soak_serving.py: a client, the servers, and what is computed and drawn of their times."""
