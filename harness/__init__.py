"""Bootproof: boots proven before promotion."""
