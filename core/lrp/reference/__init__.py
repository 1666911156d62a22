"""The general engine: zennit's hooks, one backward pass per output, for any ``nn.Module``."""
