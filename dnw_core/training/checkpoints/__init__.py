"""What a trial writes and reads again: checkpoints, results, logs, and the state of a parent trial."""
