"""Operators' commands and the embedded stack for a bare machine."""
