"""Settings that hold for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples every time, and no database: a test that passes here passes there. No
# deadline either, since a kernel's first call loads or compiles it.
settings.register_profile(
    "tuttihub",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "fuzz", settings.get_profile("tuttihub"), derandomize=False, max_examples=100_000
)
settings.load_profile("tuttihub")
