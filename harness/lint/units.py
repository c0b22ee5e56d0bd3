from __future__ import annotations
BY_NAMES=()
BY_CONTENTS=()
