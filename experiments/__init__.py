"""Wiring, records and side effects: the only package that reads settings and writes files."""
