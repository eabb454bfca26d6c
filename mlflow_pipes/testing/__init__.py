"""For those who extend or test mlflow_pipes: contract suites for the ports, and a simulator of the scheduler."""
