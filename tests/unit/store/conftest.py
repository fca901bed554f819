"""No test asserts how long an example took: Hypothesis measures that unless it is told not to."""

from hypothesis import settings

settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")
