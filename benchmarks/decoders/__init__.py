"""The contenders of benchmarks/decode.py: each writes with the same random weights, in a process of its own."""
