"""Reproducing a failure elsewhere, and finding the change that caused it.

bundle, bundle_write, bundle_read   one failure in one file
redact                              what a definition marks as secret stays out of bundles
case, case_from_bundle, attempt     what is booted; made from a bundle; one try
replay, changes, break_at           ``bootproof replay``, its --set and its --break-at
bisect, tries, differences, delta   ``bootproof bisect``: what differs, and delta debugging over that
"""
