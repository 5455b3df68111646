"""What tests, benchmarks and `make demo` stand on. Imports goservice and itself only."""
