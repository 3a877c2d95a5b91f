"""Fuzzing: properties of everything that reads what others wrote, tried with inputs that a fuzzer makes up.

`make fuzz` runs all targets (coverage-guided, with atheris, where Python is older than 3.12) for FUZZ_S seconds each;
the same properties are tried by Hypothesis in the ordinary tests.
"""
