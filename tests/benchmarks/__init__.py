"""Benchmarks: what a reducer's event costs here, and what it costs with what people would use instead.

    sh tests/run.sh --benchmark              the default set, some minutes
    sh tests/run.sh --benchmark class keys   these cases alone

See docs/reference/performance.md. Nothing here is a test; tests/project/test_benchmarks.py runs it with tiny sizes.
"""
