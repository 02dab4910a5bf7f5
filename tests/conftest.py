"""What every test stands on.

Hypothesis searches anew in each run of a developer, and the same way in each run of CI: a branch
must not fail for what another brought.
"""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: the embedded model and a busy machine make single examples slow, which is no fault.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)
