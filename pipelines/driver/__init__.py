"""The process that runs a command: its lock, heartbeat, progress and display; how it stops; what others see of it."""

from pipelines.driver.detach import Detached, start_detached
from pipelines.driver.display import Display, make_display
from pipelines.driver.heartbeat import HeartbeatWriter
from pipelines.driver.lock import LockOwner, driver_lock, lock_owner
from pipelines.driver.progress import Progress, ProgressState
from pipelines.driver.status import driver_lines, find_driver
from pipelines.driver.stop_command import stop_driver
from pipelines.driver.stopping import (
    GRACE_SECONDS,
    MAX_DEATHS,
    REMOTE_GRACE_SECONDS,
    StopRequest,
    StopWatch,
    stop_request,
)
