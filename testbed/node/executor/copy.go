package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/sirupsen/logrus"
)

// sources is a folder that COPY reads from: the build context with its
// .dockerignore, or the kept files of an earlier stage without one.
type sources struct {
	root     string
	excluded *patternmatcher.PatternMatcher
}

// contextSources reads the .dockerignore beside the Dockerfile, else the
// context's own.
func contextSources(dockerfile, context string) (sources, error) {
	result := sources{root: context}
	path := dockerfile + ".dockerignore"
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		path = filepath.Join(context, ".dockerignore")
	}
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return result, nil
	}
	if err != nil {
		return result, fmt.Errorf("parsing .dockerignore: %w", err)
	}
	defer file.Close()
	logrus.Infof("Using dockerignore file: %v", path)
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		return result, err
	}
	result.excluded, err = patternmatcher.New(patterns)
	return result, err
}

// excludes says that .dockerignore keeps a file out.
func (s sources) excludes(relative string) bool {
	relative = filepath.Clean(relative)
	if s.excluded == nil || relative == "." {
		return false
	}
	matched, err := s.excluded.MatchesOrParentMatches(relative)
	if err != nil {
		logrus.Errorf("Error matching, including %s in build: %v", relative, err)
		return false
	}
	return matched
}

// files lists everything below a path of the sources, relative to it, the path
// itself as ".".
func (s sources) files(path string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(path, func(each string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(path, each)
		if err != nil {
			return err
		}
		found = append(found, relative)
		return nil
	})
	return found, err
}

// matches resolves wildcards. A source without a match is simply absent.
func (s sources) matches(paths []string) ([]string, error) {
	if !strings.ContainsAny(strings.Join(paths, ""), "*?[") {
		return paths, nil
	}
	logrus.Infof("Resolving srcs %v...", paths)
	files, err := s.files(s.root)
	if err != nil {
		return nil, fmt.Errorf("resolving sources: %w", err)
	}
	var found []string
	for _, path := range paths {
		path = strings.TrimPrefix(filepath.Clean(path), "/")
		for _, file := range files {
			matched, err := filepath.Match(path, file)
			if err != nil {
				return nil, fmt.Errorf("matching sources: %w", err)
			}
			if matched || path == file {
				found = append(found, file)
			}
		}
	}
	return found, nil
}

// check refuses a missing source, and several files for one name.
func (s sources) check(found []string, destination string) error {
	if len(found) == 1 {
		path := filepath.Join(s.root, found[0])
		information, err := os.Lstat(path)
		if err != nil {
			return fmt.Errorf("failed to get fileinfo for %v: %w", path, err)
		}
		if information.IsDir() {
			return nil
		}
	}
	count := 0
	for _, source := range found {
		path := filepath.Join(s.root, source)
		files, err := s.files(path)
		if err != nil {
			return fmt.Errorf("failed to get relative files: %w", err)
		}
		for _, file := range files {
			if !s.excludes(filepath.Join(source, file)) {
				count++
			}
		}
	}
	if count > 1 && !isFolder(destination) {
		return errors.New("when specifying multiple sources in a COPY command, destination must be a directory and end in '/'")
	}
	return nil
}

func isFolder(path string) bool {
	information, err := os.Stat(path)
	if err != nil {
		return strings.HasSuffix(path, "/") || path == "."
	}
	return information.IsDir()
}

// place is where a source goes: into a folder under its own name, else to the
// destination itself.
func place(source string, sourceIsFolder bool, destination, workdir string) string {
	target := destination
	if !filepath.IsAbs(target) {
		target = filepath.Join(workdir, target)
		if strings.HasSuffix(destination, "/") || strings.HasSuffix(destination, ".") {
			target += "/"
		}
	}
	if sourceIsFolder {
		return filepath.Clean(target)
	}
	if isFolder(target) {
		return filepath.Join(target, filepath.Base(source))
	}
	return target
}

// physical resolves links in a destination. The last part is resolved for a
// folder only: a file replaces a link instead of being written through it.
func physical(path string, isFolder bool) (string, error) {
	var missing []string
	current := path
	if information, err := os.Lstat(path); err == nil && isLink(information) && !isFolder {
		missing = append(missing, filepath.Base(path))
		current = filepath.Dir(path)
	}
	for current != "/" {
		_, err := os.Lstat(current)
		if errors.Is(err, os.ErrNotExist) {
			missing = append(missing, filepath.Base(current))
			current = filepath.Dir(current)
			continue
		}
		if err != nil {
			return "", fmt.Errorf("failed to lstat: %w", err)
		}
		if current, err = filepath.EvalSymlinks(current); err != nil {
			return "", fmt.Errorf("failed to eval symlinks: %w", err)
		}
		break
	}
	for i := len(missing) - 1; i >= 0; i-- {
		current = filepath.Join(current, missing[i])
	}
	return filepath.Clean(current), nil
}

// copier puts sources into the image's file system and notes what it wrote.
type copier struct {
	from    sources
	skip    ignored
	work    string
	uid     int
	gid     int
	written []string
}

func (c *copier) copy(source, destination, workdir string) error {
	path := filepath.Join(c.from.root, source)
	information, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("could not copy source: %w", err)
	}
	target, err := physical(place(path, information.IsDir(), destination, workdir), information.IsDir())
	if err != nil {
		return fmt.Errorf("resolving dest symlink: %w", err)
	}
	if information.IsDir() {
		if err := c.copyFolder(path, source, target); err != nil {
			return fmt.Errorf("copying dir: %w", err)
		}
		return nil
	}
	if c.from.excludes(source) {
		return nil
	}
	if c.protects(target) {
		return nil
	}
	if isLink(information) {
		if err := replaceLink(path, target); err != nil {
			return fmt.Errorf("copying symlink: %w", err)
		}
	} else if err := c.copyRegular(path, target); err != nil {
		return fmt.Errorf("copying file: %w", err)
	}
	c.written = append(c.written, target)
	return nil
}

func (c *copier) copyFolder(path, source, target string) error {
	files, err := c.from.files(path)
	if err != nil {
		return err
	}
	type stamped struct{ from, to string }
	var stamps []stamped
	hard := map[uint64]string{}
	for _, file := range files {
		from, to := filepath.Join(path, file), filepath.Join(target, file)
		if c.from.excludes(filepath.Join(source, file)) {
			continue
		}
		if c.skip.covers(to) {
			logrus.Debugf("Skipping copy for ignored path: %s", to)
			continue
		}
		information, err := os.Lstat(from)
		if err != nil {
			return err
		}
		stat := information.Sys().(*syscall.Stat_t)
		switch {
		case information.IsDir():
			mode := information.Mode()
			if file == "." {
				// The folder itself gets the usual mode, only what is in it keeps its own.
				mode = 0o755
			}
			uid, gid := c.owner(information)
			if err := makeDirectory(to, mode, uid, gid); err != nil {
				return err
			}
			stamps = append(stamps, stamped{from, to})
		case isLink(information):
			if err := replaceLink(from, to); err != nil {
				return err
			}
		case stat.Nlink > 1 && hard[stat.Ino] != "":
			if err := os.Link(hard[stat.Ino], to); err != nil {
				return err
			}
		default:
			if stat.Nlink > 1 {
				hard[stat.Ino] = to
			}
			if err := c.copyRegular(from, to); err != nil {
				return err
			}
			stamps = append(stamps, stamped{from, to})
		}
		c.written = append(c.written, to)
	}
	for _, each := range stamps {
		if err := copyTime(each.from, each.to); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) owner(information fs.FileInfo) (int, int) {
	uid, gid := owner(information)
	if c.uid != keep {
		uid = c.uid
	}
	if c.gid != keep {
		gid = c.gid
	}
	return uid, gid
}

func (c *copier) copyRegular(from, to string) error {
	if from == to {
		return nil
	}
	return copyFile(from, to, c.uid, c.gid)
}

// protects keeps the executor's own folder from being written to.
func (c *copier) protects(path string) bool {
	if !below(path, c.work) {
		return false
	}
	logrus.Warnf("Skipping copy targeting kaniko directory: %s", path)
	return true
}
