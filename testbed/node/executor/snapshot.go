package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// snapshots remembers what the file system looked like after the last layer.
type snapshots struct {
	root    string
	layers  string
	skip    ignored
	mode    string
	scanned bool
	known   map[string]string
}

func checkSnapshotMode(mode string) error {
	switch mode {
	case "full", "redo", "time":
		return nil
	default:
		return fmt.Errorf("%s is not a valid snapshot mode", mode)
	}
}

func newSnapshots(root, work, mode string, skip ignored) *snapshots {
	return &snapshots{
		root: root, layers: filepath.Join(work, "layers"), skip: skip, mode: mode, known: map[string]string{},
	}
}

// signature is what a change must alter to be noticed.
func (s *snapshots) signature(path string) (string, error) {
	information, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	changed := information.ModTime().String()
	if s.mode == "time" {
		return changed, nil
	}
	uid, gid := owner(information)
	text := fmt.Sprintf("%s %s %d,%d", information.Mode(), changed, uid, gid)
	if s.mode == "redo" {
		return fmt.Sprintf("%s %d", text, information.Size()), nil
	}
	switch {
	case information.Mode().IsRegular():
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer file.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %x", text, sum.Sum(nil)), nil
	case isLink(information):
		target, err := os.Readlink(path)
		return text + " " + target, err
	default:
		return text, nil
	}
}

// first records the file system as it is before the first RUN.
func (s *snapshots) first() error {
	_, _, err := s.scan()
	return err
}

// scan walks the whole file system for what was changed and what was deleted
// since the last layer.
func (s *snapshots) scan() (changed, deleted []string, err error) {
	s.scanned = true
	missing := make(map[string]bool, len(s.known))
	for path := range s.known {
		missing[path] = true
	}
	var found []string
	err = filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if s.skip.names(path) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		delete(missing, path)
		now, err := s.signature(path)
		if err != nil {
			return err
		}
		if s.known[path] != now {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, path := range s.resolve(found) {
		if !s.skip.covers(path) {
			changed = append(changed, path)
		}
	}
	if err := s.remember(changed); err != nil {
		return nil, nil, err
	}
	for path := range missing {
		delete(s.known, path)
		// A deleted folder is one entry, not one for each file in it.
		if !missing[filepath.Dir(path)] {
			deleted = append(deleted, path)
		}
	}
	sort.Strings(deleted)
	return changed, deleted, nil
}

func (s *snapshots) remember(paths []string) error {
	for _, path := range paths {
		now, err := s.signature(path)
		if err != nil {
			return fmt.Errorf("unable to add file %s to layered map: %w", path, err)
		}
		s.known[path] = now
	}
	return nil
}

// resolve adds all parent folders, sorts, and puts both a link and its target
// in the place of a path that leads through a link.
func (s *snapshots) resolve(paths []string) []string {
	wanted := map[string]bool{}
	add := func(path string) {
		for !wanted[path] {
			wanted[path] = true
			if path == s.root || path == "/" {
				return
			}
			path = filepath.Dir(path)
		}
	}
	for _, path := range paths {
		path = filepath.Clean(path)
		if s.skip.names(path) {
			continue
		}
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		add(s.firstLink(path))
		target, err := filepath.EvalSymlinks(path)
		if err == nil && !s.skip.covers(target) && below(target, s.root) {
			add(target)
		}
	}
	result := make([]string, 0, len(wanted))
	for path := range wanted {
		result = append(result, path)
	}
	sort.Strings(result)
	return result
}

// firstLink is the first part of a path that is a link, or the whole path.
func (s *snapshots) firstLink(path string) string {
	first := path
	for current := path; current != s.root && current != "/"; current = filepath.Dir(current) {
		if information, err := os.Lstat(current); err == nil && isLink(information) {
			first = current
		}
	}
	return first
}

// ofFiles writes a layer of exactly these files and their parents.
func (s *snapshots) ofFiles(paths []string) (string, error) {
	resolved := s.resolve(paths)
	if err := s.remember(resolved); err != nil {
		return "", err
	}
	return s.write(resolved, nil)
}

// ofChanges writes a layer of everything that changed.
func (s *snapshots) ofChanges() (string, error) {
	changed, deleted, err := s.scan()
	if err != nil {
		return "", err
	}
	return s.write(changed, deleted)
}

func (s *snapshots) write(paths, deleted []string) (string, error) {
	if err := os.MkdirAll(s.layers, 0o755); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(s.layers, "")
	if err != nil {
		return "", err
	}
	defer file.Close()
	archive := layerWriter{
		tar: tar.NewWriter(file), root: s.root, added: map[string]bool{s.root: true}, inodes: map[uint64]string{},
	}
	for _, path := range deleted {
		if err := archive.whiteout(path); err != nil {
			return "", err
		}
	}
	for _, path := range paths {
		if err := archive.add(path); err != nil {
			return "", err
		}
	}
	return file.Name(), archive.tar.Close()
}

type layerWriter struct {
	tar    *tar.Writer
	root   string
	added  map[string]bool
	inodes map[uint64]string
}

// add writes a file after its parent folders, each once.
func (w *layerWriter) add(path string) error {
	if w.added[path] {
		return nil
	}
	if err := w.add(filepath.Dir(path)); err != nil {
		return err
	}
	w.added[path] = true
	information, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("failed to get file info for %s: %w", path, err)
	}
	if information.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	target := ""
	if isLink(information) {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(information, target)
	if err != nil {
		return err
	}
	header.Name = w.name(path)
	if information.IsDir() {
		header.Name += "/"
	}
	// Names of the builder's users mean nothing in the image.
	header.Uname, header.Gname = "", ""
	header.Format = tar.FormatPAX
	capability, err := readCapability(path)
	if err != nil {
		return err
	}
	if capability != nil {
		header.PAXRecords = map[string]string{"SCHILY.xattr." + capabilityAttribute: string(capability)}
	}
	stat := information.Sys().(*syscall.Stat_t)
	linked := false
	if stat.Nlink > 1 && !information.IsDir() {
		var first string
		if first, linked = w.inodes[stat.Ino]; linked {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, w.name(first), 0
		} else {
			w.inodes[stat.Ino] = path
		}
	}
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	if linked || !information.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w.tar, file)
	return err
}

// whiteout marks a path as deleted, unless its folder became something else.
func (w *layerWriter) whiteout(path string) error {
	folder := filepath.Dir(path)
	for parent := folder; parent != w.root && parent != "/"; parent = filepath.Dir(parent) {
		information, err := os.Lstat(parent)
		if errors.Is(err, os.ErrNotExist) || (err == nil && !information.IsDir()) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := w.add(folder); err != nil {
		return err
	}
	return w.tar.WriteHeader(&tar.Header{Name: w.name(filepath.Join(folder, whiteoutPrefix+filepath.Base(path)))})
}

func (w *layerWriter) name(path string) string {
	return strings.TrimLeft(strings.TrimPrefix(path, w.root), "/")
}
