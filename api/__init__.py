"""The HTTP API: takes scores in, answers who stands where."""
