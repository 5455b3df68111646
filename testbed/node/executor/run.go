package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/sirupsen/logrus"
)

// run executes RUN in the container's own file system, as Kaniko does: no
// chroot, the image's environment only, as the image's user.
func run(command *instructions.RunCommand, config *v1.Config, environment []string) error {
	words := command.CmdLine
	if command.PrependShell {
		interpreter := config.Shell
		if len(interpreter) == 0 {
			interpreter = []string{"/bin/sh", "-c"}
		}
		words = append(append([]string{}, interpreter...), strings.Join(command.CmdLine, " "))
	} else {
		words = append([]string{}, words...)
		words[0] = findProgram(words[0], environment)
	}
	logrus.Infof("Cmd: %s", words[0])
	logrus.Infof("Args: %s", words[1:])
	process := exec.Command(words[0], words[1:]...)
	process.Stdout, process.Stderr = os.Stdout, os.Stderr
	if _, err := os.Lstat(config.WorkingDir); err == nil {
		process.Dir = config.WorkingDir
	}
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	name, err := expandWord(config.User, environment)
	if err != nil {
		return fmt.Errorf("resolving user %s: %w", config.User, err)
	}
	alone, _, _ := strings.Cut(name, ":")
	if name != "" {
		if !feature(runHonorGroup) {
			name = alone
		}
		if process.SysProcAttr.Credential, err = credential(name); err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
	}
	if process.Env, err = withHome(environment, alone); err != nil {
		return fmt.Errorf("adding default HOME variable: %w", err)
	}
	logrus.Infof("Running: %s", process.Args)
	if err := process.Start(); err != nil {
		return fmt.Errorf("starting command: %w", err)
	}
	group, err := syscall.Getpgid(process.Process.Pid)
	if err != nil {
		return fmt.Errorf("getting group id for process: %w", err)
	}
	if err := process.Wait(); err != nil {
		return fmt.Errorf("waiting for process to exit: %w", err)
	}
	// Whatever the RUN left running would still change files.
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// findProgram looks a program up in the image's PATH.
func findProgram(program string, environment []string) string {
	if strings.Contains(program, "/") {
		return program
	}
	for _, entry := range environment {
		path, found := strings.CutPrefix(entry, "PATH=")
		if !found {
			continue
		}
		for _, folder := range filepath.SplitList(path) {
			candidate := filepath.Join(folder, program)
			information, err := os.Stat(candidate)
			if err == nil && information.Mode().IsRegular() && information.Mode()&0o111 != 0 {
				return candidate
			}
		}
	}
	return program
}

// lookup finds a user of the image by name or number; a number needs no entry
// in /etc/passwd.
func lookup(name string) (*user.User, error) {
	if found, err := user.Lookup(name); err == nil {
		return found, nil
	}
	if found, err := user.LookupId(name); err == nil {
		return found, nil
	}
	if _, err := strconv.ParseUint(name, 10, 32); err != nil {
		return nil, fmt.Errorf("user %v is not a uid and does not exist on the system", name)
	}
	return &user.User{Uid: name, HomeDir: "/"}, nil
}

// owners turns user[:group] into numbers. Without a group the user's number
// serves, whatever group /etc/passwd says.
func owners(text string) (int, int, error) {
	name, group, _ := strings.Cut(text, ":")
	found, err := lookup(name)
	if err != nil {
		return 0, 0, err
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	if group == "" {
		return int(uid), int(uid), nil
	}
	if known, err := user.LookupGroup(group); err == nil {
		group = known.Gid
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	return int(uid), int(gid), err
}

func credential(text string) (*syscall.Credential, error) {
	uid, gid, err := owners(text)
	if err != nil {
		return nil, fmt.Errorf("get uid/gid: %w", err)
	}
	result := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
	known, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return result, nil
	}
	primary, err := strconv.ParseUint(known.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group ids for user: %w", err)
	}
	if !strings.Contains(text, ":") {
		result.Gid = uint32(primary)
	}
	groups, err := known.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("group ids for user: %w", err)
	}
	for _, each := range groups {
		number, err := strconv.ParseUint(each, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parseuint: %w", err)
		}
		result.Groups = append(result.Groups, uint32(number))
	}
	return result, nil
}

// withHome adds HOME if the image does not set it.
func withHome(environment []string, name string) ([]string, error) {
	for _, entry := range environment {
		if strings.HasPrefix(entry, "HOME=") {
			return environment, nil
		}
	}
	if name == "" || name == "root" {
		return append(environment, "HOME=/root"), nil
	}
	found, err := lookup(name)
	if err != nil {
		return nil, fmt.Errorf("lookup user %v: %w", name, err)
	}
	return append(environment, "HOME="+found.HomeDir), nil
}
