"""The general engine: zennit's hooks, one pass back per target, for any ``nn.Module``."""
