"""What the service does: commands on tasks and projects, the scheduler loop, live watching."""
