"""Where runs are executed: one file an executor, shaped like `concurrent.futures.Executor`."""
