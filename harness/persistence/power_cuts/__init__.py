"""Power cuts: every state in which a disk could have been left, made from a record of all that was written to it."""
