"""Power cuts: the crash states that a power loss can leave of a disk, derived from a log of all writes to it."""
