"""How many inputs the properties are tried on: few and always the same, or as many as asked for.

MDSENS_EXAMPLES=1000 tries so many of each, new ones in every run.
"""

import os

from hypothesis import HealthCheck, settings

asked = os.environ.get("MDSENS_EXAMPLES")
shared = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("few", derandomize=True, database=None, max_examples=12, **shared)
settings.register_profile("many", max_examples=int(asked or 1000), **shared)
settings.load_profile("many" if asked else "few")
