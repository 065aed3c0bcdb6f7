"""The lean load generator: many registers in one process on raw epoll, with requests encoded beforehand."""
