"""Virtual machines with real kernels, for the tests: see ``docs/vm.md``. Standard library only."""
