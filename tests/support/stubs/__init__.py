"""Quick stand-ins for training, scheduling and stores."""
