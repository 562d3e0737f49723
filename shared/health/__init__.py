"""How targets are: which fail, which are slow, which are busy; what this process has seen."""
