"""Servers, proxies and helpers that tests use; no test is collected here."""
