"""What `bench/compare` is made of: `workloads` says what is compared, `installation` makes both sides ready, `measurement` runs
them in turn, `table` shows what came of it."""
