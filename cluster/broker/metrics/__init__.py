"""The broker's figures for those who watch it: Prometheus's text over HTTP.

Loaded only when `pylog.metrics.listener` is set.
"""
