// Package containerd pins the container runtime of the test bed; go.mod's tool lines name its programs.
package containerd
