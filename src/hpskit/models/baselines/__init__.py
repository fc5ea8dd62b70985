"""The preference models that HPS v2 was compared with, each equal to its original; see docs/baselines.md."""
