"""The small classifiers of the first table: static, discrete-time and continuous-time."""
