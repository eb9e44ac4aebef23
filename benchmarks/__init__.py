"""Measurements that anybody can repeat (`make bench-…`); each leaves a file in benchmarks/results/."""
