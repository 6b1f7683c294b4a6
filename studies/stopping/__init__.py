"""Auditing stoppers on recorded learning curves: whole studies replayed in virtual time."""
