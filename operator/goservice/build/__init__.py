"""The pod that builds: engines, their containers, what their end means, the Dockerfile, the inputs."""
