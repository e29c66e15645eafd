"""The course's recipe against the guide's, in figures that anybody can make again: ``python -m tests.benchmarks``.

`guide` and `mid_size` hold what is compared, `jobs` what one process measures, `parts` which jobs make which figures,
`table` how figures become rows. pytest collects nothing here: no test depends on a stopwatch.
"""
