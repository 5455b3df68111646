"""The local test cluster: one real Kubernetes node, its images and its servers."""
