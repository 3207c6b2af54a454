"""Running a training: its folder, states, logs and how it stops."""
