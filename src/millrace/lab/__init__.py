"""Everything that measures: one file per command of the benchmarks."""
