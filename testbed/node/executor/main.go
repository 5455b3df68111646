// Command executor is the GoService test stand-in for the Kaniko executor.
//
// It takes Kaniko's own flags and builds the subset of Dockerfile that the
// GoService operator renders, in exactly the pod that the operator renders for
// Kaniko: it unpacks the base over /, runs RUN there without a chroot, and
// deletes the file system again between stages. It exists because no public
// image registry can be reached from where the tests run. It is a test part,
// says so in the first line it prints, and is never shipped with the operator.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// announcement is the first line of every run, so that nobody reading a log
// takes this program for Kaniko.
const announcement = "GoService test stand-in for the Kaniko executor (not Kaniko): test builds only"

func main() {
	fmt.Fprintln(os.Stderr, announcement)
	if err := rootCommand().Execute(); err != nil {
		os.Exit(exitCode(err))
	}
}

// runFailure is an error of the work itself. Kaniko prints it bare, without
// the usage text that an error in the flags gets.
type runFailure struct{ error }

func (f runFailure) Unwrap() error { return f.error }

// exitCode is the failing RUN's own code, else 1.
func exitCode(err error) int {
	var process *exec.ExitError
	var failure runFailure
	if errors.As(err, &failure) && errors.As(err, &process) {
		return process.ExitCode()
	}
	return 1
}
