"""Where jobs run: factories of `concurrent.futures.Executor`, which know nothing of training."""
