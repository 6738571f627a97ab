"""The networks. ``config`` holds their settings (free of torch); ``config.build`` makes the module."""
