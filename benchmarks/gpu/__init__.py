"""What the first minutes on a GPU should tell: `python -m benchmarks.gpu`. See docs/gpu.md."""
