"""What the results say: frames, statistics, Markdown and figures from the results folder.

Pure: reads the results folder, writes the report, knows nothing of how a trial is trained or scheduled.
"""

from reports.build import ReportPaths, build_report
from reports.evidence import trial_table, verdict_table
from reports.figures.wiring import wiring_picture
from reports.summary import summarise
from reports.trials import read_history, read_trials
