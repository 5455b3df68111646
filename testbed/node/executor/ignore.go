package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ignored are the paths that belong to the pod and not to the image: mount
// points, the executor's own folder and --ignore-path. They are not unpacked
// over, not snapshotted, not copied into and not deleted between stages.
type ignored []string

// standing are ignored wherever a build runs.
var standing = []string{"/etc/mtab", "/tmp/apt-key-gpghome"}

func findIgnored(work string, opts *options) (ignored, error) {
	paths := ignored{filepath.Clean(work)}
	paths = append(paths, standing...)
	if opts.ignoreVarRun {
		paths = append(paths, "/var/run")
	}
	for _, path := range opts.ignorePaths {
		paths = append(paths, filepath.Clean(path))
	}
	mounts, err := mountPoints("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("checking filesystem mount paths for ignore list: %w", err)
	}
	return append(paths, mounts...), nil
}

func mountPoints(table string) ([]string, error) {
	file, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var points []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 5 && fields[4] != "/" {
			points = append(points, filepath.Clean(fields[4]))
		}
	}
	return points, lines.Err()
}

// covers says that path is an ignored path or lies below one.
func (i ignored) covers(path string) bool {
	for _, each := range i {
		if below(path, each) {
			return true
		}
	}
	return false
}

// within says that path is, or holds, an ignored path.
func (i ignored) within(path string) bool {
	for _, each := range i {
		if below(each, path) {
			return true
		}
	}
	return false
}

// names says that path is itself an ignored path.
func (i ignored) names(path string) bool {
	for _, each := range i {
		if each == path {
			return true
		}
	}
	return false
}

// below compares clean paths part by part; a part of the folder may hold
// wildcards.
func below(path, folder string) bool {
	if folder == "/" {
		return true
	}
	parts, wanted := strings.Split(path, "/"), strings.Split(folder, "/")
	if len(parts) < len(wanted) {
		return false
	}
	for i := range wanted {
		if matched, err := filepath.Match(wanted[i], parts[i]); err != nil || !matched {
			return false
		}
	}
	return true
}
