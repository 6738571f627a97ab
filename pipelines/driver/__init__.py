"""The process that runs a command: its lock, heartbeat, progress display, how it stops, and how others see it."""

from pipelines.driver.detach import Detached, start_detached
from pipelines.driver.display import Display, Show, make_display
from pipelines.driver.heartbeat import beating
from pipelines.driver.lock import LockOwner, driver_lock, lock_owner
from pipelines.driver.progress import Progress, State
from pipelines.driver.status import driver_lines, find_driver
from pipelines.driver.stop_command import stop_driver
from pipelines.driver.stopping import FAR_GRACE_SECONDS, GRACE_SECONDS, MAX_DEATHS, StopRequest, StopWatch, stop_request

__all__ = [
    "FAR_GRACE_SECONDS",
    "GRACE_SECONDS",
    "MAX_DEATHS",
    "Detached",
    "Display",
    "LockOwner",
    "Progress",
    "Show",
    "State",
    "StopRequest",
    "StopWatch",
    "beating",
    "driver_lines",
    "driver_lock",
    "find_driver",
    "lock_owner",
    "make_display",
    "start_detached",
    "stop_driver",
    "stop_request",
]
