// Package tools pins the Go programs that the test bed runs; go.mod's tool lines name them.
package tools
