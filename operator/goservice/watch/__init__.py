"""kopf as a plain informer, and the parts that its events feed. The only package that imports kopf."""
