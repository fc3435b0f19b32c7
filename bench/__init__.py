"""Benchmarks: ratios measured side by side on one machine, with the aims of the project.

Run all with `python -m bench`, some with `python -m bench crypto smtp imap`. Each module offers `rows()`.
"""
